"""Reads every file named on standard input with pydicom, down to the last element of the last item.

Prints "path: why" for each that cannot be read; exits 0 only if all can.
"""

import sys
import warnings

from pydicom import dcmread
from pydicom.config import settings

settings.reading_validation_mode = 0


def walk(data_set):
    for element in data_set.elements():
        if element.VR == "SQ":
            for item in data_set[element.tag].value:
                walk(item)


def main():
    warnings.simplefilter("ignore")
    failed = 0
    for line in sys.stdin:
        path = line.rstrip("\n")
        try:
            data_set = dcmread(path)
            assert data_set.preamble == bytes(128), "the preamble is not zero"
            assert data_set.file_meta.ImplementationClassUID.startswith("2.25."), "not our file meta group"
            walk(data_set)
        except Exception as error:
            failed += 1
            print(f"{path}: {type(error).__name__}: {error}")
    sys.exit(1 if failed else 0)


main()
