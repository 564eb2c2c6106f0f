"""A pynetdicom sender over mutual TLS: sends files with their data sets exactly as they stand in the file.

usage: send.py HOST PORT CALLED CALLING CERT KEY CA < paths, one a line
Prints "STATUS path" for each file: four hex digits, or "none" when no context was accepted or the association ended.
"""

import ssl
import sys
import warnings

from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config

# Fragments are read from the file as they are; otherwise pynetdicom decodes and encodes again.
_config.STORE_SEND_CHUNKED_DATASET = True
MOST_CONTEXTS = 100


def batches(paths):
    """Files whose contexts fit into one association."""
    batch, pairs = [], set()
    for path in paths:
        meta = read_file_meta_info(path)
        pair = (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID))
        if pair not in pairs and len(pairs) == MOST_CONTEXTS:
            yield batch, pairs
            batch, pairs = [], set()
        pairs.add(pair)
        batch.append(path)
    if batch:
        yield batch, pairs


def main():
    host, port, called, calling, cert, key, ca = sys.argv[1:8]
    warnings.simplefilter("ignore")
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
    context.check_hostname = False
    context.load_cert_chain(cert, key)
    paths = [line.rstrip("\n") for line in sys.stdin]
    for batch, pairs in batches(paths):
        ae = AE(ae_title=calling)
        for sop_class, syntax in sorted(pairs):
            ae.add_requested_context(sop_class, syntax)
        association = ae.associate(host, int(port), ae_title=called, tls_args=(context, None))
        for path in batch:
            if not association.is_established:
                association = ae.associate(host, int(port), ae_title=called, tls_args=(context, None))
            try:
                status = association.send_c_store(path)
                code = f"{status.Status:04X}" if "Status" in status else "none"
            except (ValueError, RuntimeError, AttributeError) as error:
                code = "none"
                print(f"{path}: {error}", file=sys.stderr)
            print(code, path, flush=True)
        association.release()


main()
