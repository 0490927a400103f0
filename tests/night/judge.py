"""Judges documents by their schemas: judge.py SCHEMAS DOCUMENTS

SCHEMAS is a directory of JSON Schemas, DOCUMENTS a file with a JSON document a line. Prints what
does not fit, and the name of every schema that something was judged by. Schemas let fields come;
here they may not: what is written and not described would be unknown to everybody.
"""

import datetime
import json
import pathlib
import sys

import jsonschema


def close(schema):
    """Lets no field be there that is not described."""
    if isinstance(schema, dict):
        if "properties" in schema and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
        for part in schema.values():
            close(part)
    elif isinstance(schema, list):
        for part in schema:
            close(part)
    return schema


formats = jsonschema.FormatChecker(formats=())


@formats.checks("date-time", raises=ValueError)
def is_instant(text):
    return not isinstance(text, str) or bool(
        datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    )


def main(directory, documents):
    judges = {}
    for file in sorted(pathlib.Path(directory).glob("tidegate.*.json")):
        schema = json.loads(file.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        judge = jsonschema.Draft202012Validator(close(schema), format_checker=formats)
        judges[schema["properties"]["schema"]["const"]] = judge
    wrong = 0
    for line in open(documents, encoding="utf-8"):
        document = json.loads(line)
        name = document.get("schema")
        if name not in judges:
            print(f"no schema: {name}")
            wrong += 1
            continue
        for error in judges[name].iter_errors(document):
            place = "/".join(str(step) for step in error.absolute_path)
            print(f"{name} {place}: {error.message}")
            wrong += 1
        print(f"judged {name}")
    for name in judges:
        print(f"known {name}")
    return 1 if wrong else 0


sys.exit(main(*sys.argv[1:]))
