"""usage: refused.py HOST PORT CERT KEY — sends a long request together with the last message of its TLS 1.3 handshake, as a
client may that does not wait to hear whether its certificate is accepted. Prints the alert that came back, and how the
connection ended."""

import socket
import ssl
import sys

# An A-ASSOCIATE-RQ by its header: longer than what a receiver takes from the kernel at a time.
REQUEST = b"\x01\x00" + (128 * 1024).to_bytes(4, "big") + bytes(128 * 1024)


def shake_hands(tls, raw, incoming, outgoing):
    while True:
        try:
            return tls.do_handshake()
        except ssl.SSLWantReadError:
            raw.sendall(outgoing.read())
            incoming.write(raw.recv(65536))


def hear(raw, incoming):
    try:
        while data := raw.recv(65536):
            incoming.write(data)
        return "closed"
    except OSError as error:
        return type(error).__name__
    finally:
        incoming.write_eof()


def main():
    host, port, cert, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Whether the receiver is who it should be is not the question here.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(cert, key)
    # In memory, so that it is us who say what goes together, and who see how the connection ends.
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        shake_hands(tls, raw, incoming, outgoing)
        tls.write(REQUEST)
        try:
            raw.sendall(outgoing.read())
        except OSError as error:
            print("while sending:", type(error).__name__)
        end = hear(raw, incoming)
    try:
        told = f"{len(tls.read())} bytes"
    except ssl.SSLError as error:
        told = error.reason
    print(f"{told}, then {end}")


main()
