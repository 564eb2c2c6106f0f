"""Lists the DICOM files that pydicom and pydicom-data bring, one JSON object a line.

A file is listed when it has the DICM prefix and a file meta group with the three UIDs that a sender needs. Where its
data set begins is found by pydicom, so that the gateway's own reader is not compared with itself.
"""

import hashlib
import json
import sys
from pathlib import Path

import pydicom.data
from pydicom.filereader import dcmread


def roots():
    yield Path(pydicom.data.__file__).parent
    try:
        import data_store
    except ImportError:
        print("pydicom-data is not installed: fewer images", file=sys.stderr)
    else:
        yield Path(data_store.__file__).parent


def data_set_at(raw):
    """The offset after the file meta group: elements of group 0002, explicit VR little endian."""
    at = 132
    while raw[at : at + 2] == b"\x02\x00":
        if raw[at + 4 : at + 6] in (b"OB", b"OW", b"UN", b"UT", b"SQ", b"UC", b"UR"):
            at += 12 + int.from_bytes(raw[at + 8 : at + 12], "little")
        else:
            at += 8 + int.from_bytes(raw[at + 6 : at + 8], "little")
    return at


def describe(path):
    raw = path.read_bytes()
    if raw[128:132] != b"DICM":
        return None
    try:
        meta = dcmread(path, stop_before_pixels=True, specific_tags=[]).file_meta
    except Exception as error:  # What pydicom cannot open is no witness.
        print(f"{path.name}: {error}", file=sys.stderr)
        return None
    uids = [str(meta.get(name, "")) for name in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID")]
    if not all(uids) or uids[0] == "1.2.840.10008.1.3.10":  # A DICOMDIR is no instance.
        return None
    at = data_set_at(raw)
    return {
        "path": str(path),
        "name": path.name,
        "class": uids[0],
        "instance": uids[1],
        "syntax": uids[2],
        "size": len(raw) - at,
        "sha256": hashlib.sha256(raw[at:]).hexdigest(),
    }


def main():
    seen = set()
    for root in roots():
        for path in sorted(root.rglob("*")):
            found = describe(path) if path.is_file() else None
            # The same image lies in several folders; once is enough.
            if found and (found["sha256"], found["instance"], found["syntax"]) not in seen:
                seen.add((found["sha256"], found["instance"], found["syntax"]))
                print(json.dumps(found))


main()
