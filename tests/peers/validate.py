"""usage: validate.py SCHEMA FILE... — checks each JSON file (or each line of a .jsonl file) against a JSON schema."""

import json
import sys

from jsonschema import Draft202012Validator


def main():
    with open(sys.argv[1]) as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    failed = 0
    for path in sys.argv[2:]:
        with open(path) as file:
            documents = [json.loads(line) for line in file] if path.endswith(".jsonl") else [json.load(file)]
        for document in documents:
            for error in validator.iter_errors(document):
                failed += 1
                print(f"{path}: {error.json_path}: {error.message}")
    sys.exit(1 if failed else 0)


main()
