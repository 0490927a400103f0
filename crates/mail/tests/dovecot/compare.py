#!/usr/bin/env python3
"""compare.py: sees mailboxes as mail programs do, and says how two sights differ.

It shares nothing with what it judges: Python's imaplib and poplib read, this file compares.

    compare.py view IMAP_PORT POP3_PORT PASSWORD  < users.json     > views.json
    compare.py compare                            < questions.json > answers.json
    compare.py digests                            < files.json     > digests.json

Invariants:
* Seeing changes nothing: folders are examined, bodies peeked at, POP3 sessions delete nothing.
* Whatever differs and is not named as lost or in doubt is written in capitals.
* Every message is fetched whole and compared by SHA-256, over IMAP and over POP3.
"""

import hashlib
import imaplib
import json
import poplib
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

HOST = "127.0.0.1"
PATIENCE_SECONDS = 60
# Mailboxes seen at once; more would only wait for the server.
READERS = 4
# Doubts that explain a difference: what was rebuilt from less than everything, what came back.
REBUILT = ["index-damaged", "uidlist-rebuilt", "folder-returned"]
WHOLE = ["folder-returned"]
BACK = ["deletion-unproved"]
# Real mail has longer lines than poplib expects.
poplib._MAXLINE = 1_000_000


def main():
    command, *arguments = sys.argv[1:]
    given = json.load(sys.stdin)
    if command == "view":
        imap_port, pop3_port, password = arguments
        see = lambda user: view(user, int(imap_port), int(pop3_port), password)
        with ThreadPoolExecutor(READERS) as pool:
            told = dict(zip(given, pool.map(see, given)))
    elif command == "digests":
        told = [served_digest(path) for path in given]
    else:
        told = compare_all(given)
    json.dump(told, sys.stdout)


# What mail programs see ---------------------------------------------------------------------------


def view(user, imap_port, pop3_port, password):
    """Everything that one mailbox shows; nothing if the server cannot serve it at all."""
    try:
        return view_of_served(user, imap_port, pop3_port, password)
    except (imaplib.IMAP4.abort, imaplib.IMAP4.error, OSError) as error:
        return {"folders": {}, "subscribed": [], "refused": [str(error)], "uidls": None}


def view_of_served(user, imap_port, pop3_port, password):
    session = Session(user, imap_port, password)
    subscribed = sorted(name for name, _ in session.names("LSUB"))
    folders, refused = {}, []
    for name, attributes in session.names("LIST"):
        if not {"\\Noselect", "\\NonExistent"} & attributes:
            folders[name] = session.folder(name)
            if folders[name] is None:
                del folders[name]
                refused.append(name)
    session.end()
    seen = {"folders": folders, "subscribed": subscribed, "refused": refused}
    seen["uidls"] = pop3(user, pop3_port, password)
    return seen


class Session:
    """An IMAP session that logs in again after the server has hung up."""

    def __init__(self, user, port, password):
        self.login = (user, port, password)
        self.begin()

    def begin(self):
        user, port, password = self.login
        self.imap = imaplib.IMAP4(HOST, port, timeout=PATIENCE_SECONDS)
        self.imap.login(user, password)
        # Counts of changes are told to those who say that they use them.
        self.imap.enable("CONDSTORE")

    def end(self):
        self.imap.logout()

    def names(self, command):
        """Folders with their attributes."""
        ask = self.imap.list if command == "LIST" else self.imap.lsub
        _, lines = ask('""', "*")
        for line in lines:
            if line is None or line == b"":
                continue
            literal = line[1] if isinstance(line, tuple) else None
            text = (line[0] if literal is not None else line).decode()
            attributes, name = re.match(r'\(([^)]*)\) "/" (.*)', text).groups()
            name = literal.decode() if literal is not None else unquoted(name)
            yield name, set(attributes.split())

    def folder(self, name):
        """A folder with all its messages, or nothing if the server refuses it."""
        good, head = self.examine(name)
        if not good:
            return None
        number = lambda what: int(head[what][0]) if head.get(what, [None])[0] else None
        seen = {
            "validity": number("UIDVALIDITY"),
            "next": number("UIDNEXT"),
            "modseq": number("HIGHESTMODSEQ"),
            "messages": self.messages(name, head),
        }
        status = self.imap.status(quoted(name), "(X-GUID)")[1][0].decode()
        seen["guid"] = status.rsplit("X-GUID ", 1)[-1].rstrip(")")
        return seen

    def examine(self, name):
        try:
            good, _ = self.imap.select(quoted(name), readonly=True)
            return good == "OK", dict(self.imap.untagged_responses)
        except imaplib.IMAP4.abort:
            self.begin()
            return False, {}

    def messages(self, name, head):
        if head.get("EXISTS", [b"0"])[0] == b"0":
            return {}
        try:
            return self.fetch("1:*")
        except (imaplib.IMAP4.abort, imaplib.IMAP4.error, OSError):
            self.begin()
        # The server failed over one of them: one by one, to know which.
        self.examine(name)
        uids = self.imap.uid("SEARCH", "ALL")[1][0].decode().split()
        told = {}
        for uid in uids:
            try:
                told.update(self.fetch(uid))
            except (imaplib.IMAP4.abort, imaplib.IMAP4.error, OSError):
                self.begin()
                self.examine(name)
            if uid not in told:
                told[uid] = {"flags": [], "time": "", "size": 0, "guid": "", "digest": None}
        return told

    def fetch(self, uids):
        wanted = "(UID FLAGS INTERNALDATE RFC822.SIZE X-GUID BODY.PEEK[])"
        good, answer = self.imap.uid("FETCH", uids, wanted)
        if good != "OK":
            raise imaplib.IMAP4.abort("the server says no")
        told, at = {}, 0
        while at < len(answer):
            if not isinstance(answer[at], tuple):
                at += 1
                continue
            text, body = answer[at][0].decode(), answer[at][1]
            if at + 1 < len(answer) and isinstance(answer[at + 1], bytes):
                text += answer[at + 1].decode()
            after = lambda what, end: re.search(re.escape(what) + "([^" + end + "]*)", text)[1]
            flags = set(after("FLAGS (", ")").split()) - {"\\Recent"}
            told[after("UID ", " )")] = {
                "flags": sorted(flags),
                "time": after('INTERNALDATE "', '"'),
                "size": int(after("RFC822.SIZE ", " )")),
                "guid": after("X-GUID ", " )"),
                "digest": hashlib.sha256(body).hexdigest(),
            }
            at += 1
        return told


def pop3(user, port, password):
    """UIDL and digest of every message in its order, or nothing if the server refuses."""
    session = poplib.POP3(HOST, port, timeout=PATIENCE_SECONDS)
    try:
        session.user(user)
        session.pass_(password)
        told = []
        for line in session.uidl()[1]:
            number, uidl = line.decode().split(" ")
            lines = session.retr(int(number))[1]
            digest = hashlib.sha256(b"".join(line + b"\r\n" for line in lines))
            told.append([uidl, digest.hexdigest()])
        session.quit()
        return told
    except (poplib.error_proto, OSError):
        session.close()
        return None


def served_digest(path):
    """The digest of a file's bytes as a server serves them: every line ends in CRLF."""
    with open(path, "rb") as file:
        served = re.sub(rb"(?<!\r)\n", b"\r\n", file.read())
    return hashlib.sha256(served).hexdigest()


def quoted(name):
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquoted(name):
    if name.startswith('"'):
        return name[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return name


# How two sights differ ----------------------------------------------------------------------------


def compare_all(questions):
    """Answers each question {before, after, named, doubts, later?} with a sentence."""
    totals = Counter()
    answers = []
    for question in questions:
        outcome = Comparison(question).outcome()
        totals.update(mailboxes=1)
        for side in ("before", "after"):
            view = question[side]
            totals[f"folders {side}"] += len(view["folders"])
            messages = sum(len(it["messages"]) for it in view["folders"].values())
            totals[f"messages over IMAP {side}"] += messages
            totals[f"messages over POP3 {side}"] += len(view["uidls"] or [])
        answers.append(outcome)
    return {"outcomes": answers, "totals": totals}


class Comparison:
    """What became of a mailbox."""

    def __init__(self, question):
        self.before, self.after = question["before"], question["after"]
        self.later = question.get("later")
        self.named = {(folder_key(it["folder"]), it["uid"]) for it in question.get("named", [])}
        self.doubts = {
            (folder_key(it["folder"]), it["kind"], it["uid"]) for it in question.get("doubts", [])
        }
        self.counts = Counter()

    def outcome(self):
        self.counts["FOLDER REFUSED"] = len(self.after["refused"])
        if self.before["refused"]:
            self.add("FOLDER REFUSED BEFORE")
        for name, folder in self.before["folders"].items():
            if name in self.after["folders"]:
                self.compare_folder(name, folder, self.after["folders"][name])
            elif name not in self.after["refused"]:
                self.add("FOLDER GONE")
        self.look_for_returned()
        if self.before["subscribed"] != self.after["subscribed"]:
            self.add("SUBSCRIPTIONS CHANGED")
        self.compare_pop3()
        if self.later:
            self.went_on()
        counts = +self.counts
        same = counts.pop("same", 0)
        parts = [f"{same} same"] if same else []
        return ", ".join(parts + [f"{counts[what]} {what}" for what in sorted(counts)])

    def add(self, what):
        self.counts[what] += 1

    def is_said(self, folder, kinds, *uids):
        """Whether one of these doubts was told of a folder, or of a message in it."""
        folder, uids = folder_key(folder), uids or [None]
        return any((folder, kind, uid) in self.doubts for kind in kinds for uid in uids)

    def compare_folder(self, name, before, after):
        if after["guid"] != before["guid"]:
            self.add("FOLDER GUID CHANGED")
        if after["validity"] != before["validity"]:
            self.add("UIDVALIDITY CHANGED")
        else:
            self.compare_counters(name, before, after)
        new = [it for uid, it in after["messages"].items() if int(uid) >= before["next"]]
        for uid, message in before["messages"].items():
            now = after["messages"].get(uid)
            self.add(self.fate(name, uid, message, now, new))
        for uid in after["messages"]:
            if int(uid) < before["next"] and uid not in before["messages"]:
                said = self.is_said(name, BACK, int(uid)) or self.is_said(name, REBUILT)
                self.add("back though deleted and said" if said else "BACK THOUGH DELETED")

    def compare_counters(self, name, before, after):
        """What must never fall while UIDVALIDITY stays."""
        if after["next"] < before["next"]:
            self.add("UIDNEXT FELL")
        if before["modseq"] is None or after["modseq"] is None:
            self.add("NO HIGHESTMODSEQ")
        elif after["modseq"] < before["modseq"]:
            said = self.is_said(name, ["modseq-lost"])
            self.add("modseq anew and said" if said else "HIGHESTMODSEQ FELL")

    def fate(self, name, uid, message, now, new):
        if now == message:
            return "same"
        if now is not None:
            if now["digest"] is None:
                return "UNREADABLE"
            if now["digest"] != message["digest"]:
                said = self.is_said(name, ["both-look-good"], int(uid))
                return "other bytes and said" if said else "WRONG BYTES"
            if now["guid"] != message["guid"]:
                return "GUID CHANGED"
            if now["flags"] == message["flags"]:
                return "TIME OR SIZE CHANGED"
            return "other flags and said" if self.is_said(name, REBUILT) else "OTHER FLAGS"
        if message in new:
            return "new UID"
        moved = [it for it in new if it["digest"] == message["digest"]]
        if moved:
            other = [what for what in message if moved[0][what] != message[what]]
            return "new UID and other " + " and ".join(sorted(other))
        if (folder_key(name), int(uid)) in self.named:
            return "lost and named"
        if self.came_back(message):
            return "back where it was moved from"
        return "vanished with a folder and said" if self.is_said(name, WHOLE) else "VANISHED"

    def came_back(self, message):
        """Whether a message that is gone stands, as new mail, in another folder."""
        for name, folder in self.after["folders"].items():
            known = self.before["folders"].get(name, {"next": 0})["next"]
            for uid, it in folder["messages"].items():
                if int(uid) >= known and it["digest"] == message["digest"]:
                    return True
        return False

    def look_for_returned(self):
        folders = self.before["folders"]
        was = {it["digest"] for folder in folders.values() for it in folder["messages"].values()}
        for name, folder in self.after["folders"].items():
            if name not in folders:
                said = self.is_said(name, WHOLE)
                self.add("folder back and said" if said else "FOLDER BACK THOUGH DELETED")
                continue
            for uid, message in folder["messages"].items():
                if int(uid) >= folders[name]["next"] and message["digest"] not in was:
                    said = self.is_said(name, BACK + REBUILT, None, int(uid))
                    what = "back with new UID though deleted and said"
                    self.add(what if said else "BACK WITH NEW UID THOUGH DELETED")

    def compare_pop3(self):
        """Over POP3 the inbox is the same as over IMAP, and as it was."""
        for side in (self.before, self.after):
            inbox = side["folders"].get("INBOX")
            if inbox is None or side["uidls"] is None:
                self.add("NO POP3")
                continue
            uids = sorted(inbox["messages"], key=int)
            over_imap = [
                [f"{int(uid):08x}{inbox['validity']:08x}", inbox["messages"][uid]["digest"]]
                for uid in uids
            ]
            if side["uidls"] != over_imap:
                self.add("POP3 DIFFERS FROM IMAP")

    def went_on(self):
        """One new message came to the inbox under the next UID, and all else stayed."""
        for name, folder in self.after["folders"].items():
            now = self.later["folders"].get(name)
            if now is None:
                self.add("FOLDER GONE AFTERWARDS")
                continue
            expected = dict(folder["messages"])
            if name == "INBOX":
                newest = str(folder["next"])
                if newest not in now["messages"]:
                    self.add("NO NEW MAIL")
                    continue
                expected[newest] = now["messages"][newest]
            if now["messages"] != expected:
                self.add("FOLDER CHANGED AFTERWARDS")
            if now["validity"] != folder["validity"]:
                self.add("UIDVALIDITY CHANGED AFTERWARDS")


def folder_key(name):
    """One spelling for the inbox and for both separators."""
    return "" if name == "INBOX" else name.replace("/", ".")


if __name__ == "__main__":
    main()
