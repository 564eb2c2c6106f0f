"""usage: audit_messages.py FILE — syslog messages as a repository received them, a line each: checks that each is a DICOM
audit message (PS3.15 A.5.1) with the header of RFC 5424, and prints what it says, a line of JSON each."""

import base64
import json
import re
import sys
import xml.etree.ElementTree as ET

HEADER = re.compile(r"<(8[45])>1 (\S+) (\S+) portcullis (\d+) DICOM\+RFC3881 - \ufeff(<\?xml .*)", re.DOTALL)
CODED = ["csd-code", "codeSystemName", "originalText"]


def coded(element, where):
    assert element is not None, f"{where} is missing"
    for name in CODED:
        assert element.get(name), f"{where} has no {name}"
    return element.get("csd-code")


def check(line):
    header = HEADER.fullmatch(line)
    assert header, "the header is not that of RFC 5424"
    root = ET.fromstring(header[5].encode())
    assert root.tag == "AuditMessage"
    order = [child.tag for child in root]
    known = ["EventIdentification", "ActiveParticipant", "AuditSourceIdentification", "ParticipantObjectIdentification"]
    assert order == sorted(order, key=known.index), f"elements in another order: {order}"
    event = root.find("EventIdentification")
    assert event.get("EventActionCode") in list("CRUDE")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.get("EventDateTime"))
    outcome = event.get("EventOutcomeIndicator")
    assert outcome in ["0", "4", "8", "12"]
    assert header[1] == ("85" if outcome == "0" else "84"), "severity"
    kind = event.find("EventTypeCode")
    people = root.findall("ActiveParticipant")
    assert people, "nobody took part"
    for person in people:
        assert person.get("UserID") and person.get("UserIsRequestor") in ["true", "false"]
        for role in person.findall("RoleIDCode"):
            coded(role, "RoleIDCode")
        assert (person.get("NetworkAccessPointID") is None) == (person.get("NetworkAccessPointTypeCode") is None)
    source = root.findall("AuditSourceIdentification")
    assert len(source) == 1 and source[0].get("AuditSourceID")
    objects = root.findall("ParticipantObjectIdentification")
    for thing in objects:
        coded(thing.find("ParticipantObjectIDTypeCode"), "ParticipantObjectIDTypeCode")
        assert thing.get("ParticipantObjectID") and thing.findtext("ParticipantObjectName")
        assert thing.get("ParticipantObjectTypeCodeRole") != "1", "a patient"
        for detail in thing.findall("ParticipantObjectDetail"):
            assert detail.get("type")
            base64.b64decode(detail.get("value"), validate=True)
    classes = root.iter("SOPClass")
    return {
        "event": coded(event.find("EventID"), "EventID"),
        "type": kind is not None and coded(kind, "EventTypeCode"),
        "action": event.get("EventActionCode"),
        "outcome": outcome,
        "users": [person.get("UserID") for person in people],
        "roles": [role.get("csd-code") for person in people for role in person.findall("RoleIDCode")],
        "titles": [person.get("AlternativeUserID") for person in people],
        "objects": [thing.get("ParticipantObjectID") for thing in objects],
        "instances": sum(int(each.get("NumberOfInstances")) for each in classes),
        "description": event.findtext("EventOutcomeDescription"),
    }


with open(sys.argv[1], encoding="utf-8", newline="\n") as file:
    for line in file:
        print(json.dumps(check(line.removesuffix("\n"))))
