"""usage: downgrade.py HOST PORT CERT KEY — one handshake for each row of a table with tlslite-ng, which speaks what no other
library speaks any more. Prints a line each: its name, and "complete" or what ended it."""

import socket
import sys

from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.errors import TLSLocalAlert, TLSRemoteAlert
from tlslite.constants import AlertDescription

TLS12 = {"minVersion": (3, 3), "maxVersion": (3, 3)}
TLS13 = {"minVersion": (3, 4), "maxVersion": (3, 4)}
ROWS = {
    "TLS 1.3": TLS13,
    "TLS 1.2": TLS12,
    "TLS 1.2 without extended master secret": TLS12 | {"useExtendedMasterSecret": False},
    "TLS 1.1": {"minVersion": (3, 2), "maxVersion": (3, 2)},
    "TLS 1.0": {"minVersion": (3, 1), "maxVersion": (3, 1)},
    "SSL 3.0": {"minVersion": (3, 0), "maxVersion": (3, 0)},
    "CBC": TLS12 | {"cipherNames": ["aes256", "aes128"]},
    "3DES": TLS12 | {"cipherNames": ["3des"]},
    "RC4": TLS12 | {"cipherNames": ["rc4"]},
    "no encryption": TLS12 | {"cipherNames": ["null"]},
    "RSA key transport": TLS12 | {"keyExchangeNames": ["rsa"]},
    "finite field Diffie-Hellman": TLS12 | {"keyExchangeNames": ["dhe_rsa"]},
    "anonymous": "anonymous",
    "CCM with a short tag": TLS12 | {"cipherNames": ["aes128ccm_8", "aes256ccm_8"]},
}


def settings(changes):
    made = HandshakeSettings()
    made.cipherImplementations = ["python"]
    # It would send a compressed certificate, which nobody has asked for.
    made.certificate_compression_send = []
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def shake_hands(tls, row, chain, key):
    try:
        if row == "anonymous":
            tls.handshakeClientAnonymous(settings=settings(TLS12))
        else:
            tls.handshakeClientCert(chain, key, settings=settings(row))
        return "complete"
    except TLSRemoteAlert as alert:
        return "alert " + AlertDescription.toStr(alert.description)
    except TLSLocalAlert as alert:
        return "refused here: " + str(alert)
    except OSError as error:
        return type(error).__name__


def main():
    host, port, cert, key = sys.argv[1:]
    chain = X509CertChain()
    with open(cert) as pem:
        chain.parsePemList(pem.read())
    with open(key) as pem:
        key = parsePEMKey(pem.read(), private=True, implementations=["python"])
    for name, row in ROWS.items():
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            print(f"{name}: {shake_hands(TLSConnection(raw), row, chain, key)}")


main()
