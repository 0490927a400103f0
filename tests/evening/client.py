#!/usr/bin/env python3
"""client.py: counts over IMAP what users have, against what the provider had.

It shares nothing with what it judges: Python's imaplib reads, this file compares.

    client.py expect PROVIDER_ROOT          > expected.json    (before anything is repaired)
    client.py count  PASSWORD < counted.json > counts.json

`counted.json` is {"expected": path, "users": {address: IMAP port}, "sent": {address: [id]}}.

Invariants:
* Looking changes nothing: folders are examined, bodies peeked at.
* Every message is fetched whole and compared by SHA-256 of what IMAP shows.
* A message that was not there before and was not sent is wrong, whatever it looks like.
"""

import hashlib
import imaplib
import json
import os
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

HOST = "127.0.0.1"
PATIENCE_SECONDS = 60
# Mailboxes read at once; more would only wait for the server.
READERS = 4
# What marks the mail that a test sends.
SENT = re.compile(rb"^X-Evening: (\S+)\r?$", re.MULTILINE | re.IGNORECASE)


def main():
    command, argument = sys.argv[1:3]
    if command == "expect":
        json.dump(expect(argument), sys.stdout)
    else:
        json.dump(count_all(json.load(sys.stdin), argument), sys.stdout)


# What was there before ----------------------------------------------------------------------------


def expect(root):
    """By address: what must be served, what may be, and under which UIDs."""
    wanted = {}
    with open(os.path.join(root, "truth.jsonl"), encoding="utf-8") as lines:
        for line in lines:
            mailbox = json.loads(line)
            wanted[mailbox["address"]] = expect_mailbox(root, mailbox)
    return wanted


def expect_mailbox(root, mailbox):
    node = os.path.join(root, f"stor-{mailbox['node'] + 1:02}")
    folders = [folder_name(folder["name"]) for folder in mailbox["folders"]]
    must, may = [], []
    known = lambda message: mailbox["folders"][message["folder"]]["name"]
    own = [intact_digest(node, mailbox["path"], known(message), message) for message in mailbox["messages"]]
    # The same bytes under another name: a message that its owner moved.
    anywhere = {message["digest"]: digest for message, digest in zip(mailbox["messages"], own) if digest}
    for message, digest in zip(mailbox["messages"], own):
        folder = folders[message["folder"]]
        wanted = message["fate"] == "wanted"
        if wanted and digest is not None:
            must.append([folder, digest, message["uid"] if message["uid_known"] else None])
        elif message["digest"] in anywhere and (wanted or not message["fate"]["deleted"]["proved"]):
            may.append([folder, anywhere[message["digest"]]])
    validity = {folder_name(folder["name"]): folder["uid_validity"]
                for folder in mailbox["folders"] if folder["uid_validity_known"]}
    return {"must": must, "may": may, "uid_validity": validity}


def folder_name(name):
    return name.replace(".", "/") if name else "INBOX"


def intact_digest(node, path, folder, message):
    """SHA-256 of the message as IMAP shows it, from a side that holds it intact."""
    for side in ("live", "snapshot"):
        if message[side] != "intact":
            continue
        base = os.path.join(node, side, path, "." + folder if folder else "")
        for part in ("cur", "new"):
            directory = os.path.join(base, part)
            names = os.listdir(directory) if os.path.isdir(directory) else []
            for name in names:
                if name.split(":")[0] == message["name"]:
                    with open(os.path.join(directory, name), "rb") as file:
                        return shown_digest(file.read())
    return None


def shown_digest(body):
    return hashlib.sha256(body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")).hexdigest()


# What is there now --------------------------------------------------------------------------------


def count_all(given, password):
    with open(given["expected"], encoding="utf-8") as file:
        expected = json.load(file)
    judge = lambda user: count(given["users"][user], user, password, expected[user], given["sent"].get(user, []))
    with ThreadPoolExecutor(READERS) as pool:
        counts = list(pool.map(judge, given["users"]))
    total = Counter()
    complaints = []
    for counted, said in counts:
        total.update(counted)
        complaints += said
    return {"counts": total, "complaints": complaints[:50]}


def count(port, user, password, expected, sent):
    served, validity, arrived = view(port, user, password)
    counted = Counter(mailboxes=1, messages=sum(len(uids) for uids in served.values()))
    said = []

    def complain(what, about):
        counted[what] += 1
        said.append(f"{user}: {what}: {about}")

    must = Counter((folder, digest) for folder, digest, _ in expected["must"])
    may = Counter((folder, digest) for folder, digest in expected["may"])
    for key, uids in served.items():
        if key not in must and key not in may:
            complain("wrong", f"{key[0]} UID {uids}")
        elif len(uids) > must[key] + may[key]:
            complain("duplicated", f"{key[0]} UID {uids}")
    for key, number in must.items():
        if len(served.get(key, [])) < number:
            complain("lost", f"{key}")
        else:
            counted["right"] += number
    for folder, digest, uid in expected["must"]:
        if uid is not None and (folder, digest) in served and uid not in served[(folder, digest)]:
            complain("renumbered", f"{folder}: {uid} is {served[(folder, digest)]}")
    for folder, number in expected["uid_validity"].items():
        if folder in validity and validity[folder] != number:
            complain("another UIDVALIDITY", f"{folder}: {number} is {validity[folder]}")
    for mark in sent:
        if arrived[mark] == 1:
            counted["sent, there once"] += 1
        else:
            complain("sent, not there" if arrived[mark] == 0 else "sent, there twice", mark)
    for mark in set(arrived) - set(sent):
        complain("sent to somebody else", mark)
    return counted, said


def view(port, user, password):
    """Messages by folder and digest, UIDVALIDITY by folder, and how often sent mail is there."""
    served, validity, arrived = {}, {}, Counter()
    imap = imaplib.IMAP4(HOST, port, PATIENCE_SECONDS)
    imap.login(user, password)
    for line in imap.list()[1]:
        if line is None or b"\\Noselect" in line:
            continue
        folder = re.match(rb'\(.*?\) (?:"."|NIL) (.*)', line).group(1).decode().strip('"')
        imap.select(f'"{folder}"', readonly=True)
        validity[folder] = int(imap.response("UIDVALIDITY")[1][0])
        answer = imap.uid("FETCH", "1:*", "(UID BODY.PEEK[])")[1]
        for part in answer:
            if not isinstance(part, tuple):
                continue
            uid = int(re.search(rb"UID (\d+)", part[0]).group(1))
            mark = SENT.search(part[1].split(b"\r\n\r\n")[0])
            if mark:
                arrived[mark.group(1).decode()] += 1
            else:
                key = (folder, hashlib.sha256(part[1]).hexdigest())
                served.setdefault(key, []).append(uid)
    imap.logout()
    return served, validity, arrived


main()
