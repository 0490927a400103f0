#!/usr/bin/env python3
"""checker.py: counts every message of a practice provider, and audits what was recorded.

It shares nothing with what it judges: it reads files, names, lists and records by itself.

    checker.py expect PROVIDER > expected.json     (before anything is repaired)
    checker.py count < told.json > counts.json

`told.json` is {"provider": dir, "expected": file, "states": {address: "restored" | "set-aside" |
"untouched"}, "listed": [[address, folder, name]], "audit": absent or {"nodes": [{"name", "state",
"work", "export"}], "coordinator": export, "levels": {address: level}, "admitted": [address]},
"kept": absent or {"node": as above, "prepared": [address], "open": [address]}}.

Invariants:
* Looking changes nothing: no link is followed, only regular files are opened, none for writing.
* Every message is compared by SHA-256 of its bytes, whatever its name says.
* A file that was not there before is wrong, whatever it looks like.
* Of a mailbox that was not restored, nothing intact may be gone from live, snapshot and work together.
"""

import hashlib
import json
import os
import re
import stat
import sys
from collections import Counter, defaultdict

SHOWN_MAX = 40


def main():
    if sys.argv[1] == "expect":
        json.dump(expect(sys.argv[2]), sys.stdout)
    else:
        json.dump(Count(json.load(sys.stdin)).result(), sys.stdout)


# What was there before ----------------------------------------------------------------------------


def expect(root):
    """The truth, and the SHA-256 of every message that some side holds intact, by its digest."""
    mailboxes, seals = [], {}
    with open(os.path.join(root, "truth.jsonl"), encoding="utf-8") as lines:
        for line in lines:
            mailbox = json.loads(line)
            mailboxes.append(mailbox)
            for side in ("live", "snapshot"):
                maildir = os.path.join(root, node_name(mailbox), side, mailbox["path"])
                found = survey(maildir)
                for message in mailbox["messages"]:
                    if message[side] != "intact" or message["digest"] in seals:
                        continue
                    folder = mailbox["folders"][message["folder"]]["name"]
                    file = found[folder].files[message["name"]][0]
                    if file.size != message["size_bytes"]:
                        sys.exit(f"{maildir}: {message['name']} is not what the truth says")
                    seals[message["digest"]] = file.seal
    return {"mailboxes": mailboxes, "seals": seals}


def node_name(mailbox):
    return f"stor-{mailbox['node'] + 1:02}"


# What lies in a Maildir ---------------------------------------------------------------------------


class File:
    def __init__(self, path, marks):
        with open(path, "rb") as file:
            self.bytes = file.read()
        self.seal = hashlib.sha256(self.bytes).hexdigest()
        self.size = len(self.bytes)
        self.mtime = int(os.lstat(path).st_mtime)
        self.flags = "".join(sorted(mark for mark in marks if mark.isupper()))


class Folder:
    def __init__(self, path):
        self.files = defaultdict(list)
        self.validity, self.uids = None, {}
        for part in ("cur", "new"):
            directory = os.path.join(path, part)
            for name in entries(directory):
                file = os.path.join(directory, name)
                if stat.S_ISREG(os.lstat(file).st_mode):
                    base, _, marks = name.partition(":2,")
                    self.files[base].append(File(file, marks))
        self.read_list(os.path.join(path, "dovecot-uidlist"))

    def read_list(self, path):
        if not os.path.isfile(path) or os.path.islink(path):
            return
        with open(path, encoding="utf-8", errors="replace") as file:
            head, *lines = file.read().split("\n")
        found = re.match(r"3 (?:.* )?V(\d+)", head)
        if not found:
            return
        self.validity = int(found.group(1))
        for line in lines:
            fields, colon, name = line.partition(" :")
            if colon:
                self.uids[name.split(":")[0]] = int(fields.split(" ")[0])


def survey(maildir):
    """Its folders by name; the inbox is the empty one."""
    folders = {}
    if is_directory(maildir):
        folders[""] = Folder(maildir)
        for name in entries(maildir):
            path = os.path.join(maildir, name)
            if name.startswith(".") and is_directory(path):
                folders[name[1:]] = Folder(path)
    return folders


def entries(path):
    return sorted(os.listdir(path)) if is_directory(path) else []


def is_directory(path):
    return os.path.isdir(path) and not os.path.islink(path)


# What is there now --------------------------------------------------------------------------------


class Count:
    def __init__(self, told):
        self.told = told
        with open(told["expected"], encoding="utf-8") as file:
            expected = json.load(file)
        self.mailboxes, self.seals = expected["mailboxes"], expected["seals"]
        self.listed = {tuple(item) for item in told["listed"]}
        self.counts, self.complaints, self.kept = Counter(), [], {}

    def result(self):
        for mailbox in self.mailboxes:
            state = self.told["states"].get(mailbox["address"], "untouched")
            self.counts["mailboxes " + state] += 1
            if state == "restored":
                self.restored(mailbox)
            else:
                self.nothing_is_gone(mailbox)
        if "kept" in self.told:
            self.kept_records(self.told["kept"])
        if "audit" in self.told:
            self.audit(self.told["audit"])
        return {"counts": self.counts, "complaints": self.complaints[:SHOWN_MAX]}

    def complain(self, what, about):
        self.counts["wrong: " + what] += 1
        self.complaints.append(f"{what}: {about}")

    def is_it(self, file, message):
        seal = self.seals.get(message["digest"])
        if seal is not None:
            return file.seal == seal
        # No side held it: all that is known is what the lab wrote down.
        return file.size == message["size_bytes"] and blake3(file.bytes) == message["digest"]

    def restored(self, mailbox):
        found = survey(self.place(mailbox, "live"))
        names = [folder["name"] for folder in mailbox["folders"]]
        known = set()
        everything = [file for folder in found.values() for files in folder.files.values() for file in files]
        movers = {message["moved_from"] for message in mailbox["messages"]}
        for number, message in enumerate(mailbox["messages"]):
            folder = names[message["folder"]]
            known.add((folder, message["name"]))
            files = found[folder].files.get(message["name"], []) if folder in found else []
            right = [file for file in files if self.is_it(file, message)]
            about = f"{mailbox['address']} {folder or 'INBOX'} {message['name']}"
            if len(files) > len(right):
                self.complain("altered", about)
            if len(files) > 1:
                self.complain("twice", about)
            if message["fate"] != "wanted":
                astray = not right and message["snapshot"] == "intact" and number in movers
                if astray and not any(self.is_it(file, message) for file in everything):
                    self.complain("lost", f"{about}: moved, and nowhere")
                if right and message["fate"]["deleted"]["proved"]:
                    self.complain("deleted and back", about)
                continue
            self.wanted(message, right, files, (mailbox["address"], folder, about))
            if right and not (message["live"] == "absent" == message["snapshot"]):
                self.dress(message, right[0], found[folder], about)
        for folder in found:
            for name in found[folder].files:
                if (folder, name) not in known:
                    self.complain("misplaced", f"{mailbox['address']} {folder or 'INBOX'} {name}")
        for folder in mailbox["folders"]:
            there = found.get(folder["name"])
            if folder["uid_validity_known"] and (there is None or there.validity != folder["uid_validity"]):
                self.complain("another UIDVALIDITY", f"{mailbox['address']} {folder['name']}")

    def wanted(self, message, right, files, where):
        address, folder, about = where
        listed = (address, folder, message["name"]) in self.listed
        recoverable = "intact" in (message["live"], message["snapshot"])
        self.counts["messages expected"] += recoverable
        if right:
            self.counts["messages right"] += recoverable
            self.counts["messages regained"] += not recoverable
        elif recoverable:
            self.complain("lost", about + (": set aside, though intact" if listed else ""))
        elif listed:
            self.counts["messages beyond repair, and listed"] += 1
        elif not files and message["traceable"]:
            self.complain("beyond repair, and not listed", about)

    def dress(self, message, file, folder, about):
        if file.flags != "".join(sorted(message["flags"])):
            self.complain("other flags", f"{about}: {file.flags}, not {message['flags']}")
        if file.mtime != message["mtime"]:
            self.complain("another date", about)
        uid = folder.uids.get(message["name"])
        if message["uid_known"] and folder.validity is not None and uid != message["uid"]:
            self.complain("another UID", f"{about}: {uid}, not {message['uid']}")

    def nothing_is_gone(self, mailbox):
        wanted = {
            self.seals[message["digest"]]: message["name"]
            for message in mailbox["messages"]
            if message["digest"] in self.seals and "intact" in (message["live"], message["snapshot"])
        }
        self.counts["messages of mailboxes not restored"] += len(wanted)
        for look in (lambda: self.seals_of(mailbox, "live"), lambda: self.seals_of(mailbox, "snapshot"),
                     lambda: self.kept_on(node_name(mailbox))):
            if wanted:
                there = look()
                wanted = {seal: name for seal, name in wanted.items() if seal not in there}
        for name in wanted.values():
            self.complain("destroyed", f"{mailbox['address']} {name}")

    def place(self, mailbox, side):
        return os.path.join(self.told["provider"], node_name(mailbox), side, mailbox["path"])

    def seals_of(self, mailbox, side):
        found = survey(self.place(mailbox, side))
        return {file.seal for folder in found.values() for files in folder.files.values() for file in files}

    def kept_on(self, node):
        if node not in self.kept:
            seals = self.kept[node] = set()
            for directory, _, names in os.walk(os.path.join(self.told["provider"], node, "work")):
                for name in names:
                    path = os.path.join(directory, name)
                    if stat.S_ISREG(os.lstat(path).st_mode):
                        seals.add(File(path, "").seal)
        return self.kept[node]

    # What was recorded ----------------------------------------------------------------------------

    def audit(self, audit):
        """The journals of all nodes against their claims, admission's answers and the coordinator."""
        levels, states = {}, {}
        for node in audit["nodes"]:
            jobs = self.replay(node)
            for job, held in jobs.items():
                self.check_claim(node, job, held.generation)
                for ordinal, address in enumerate(held.addresses):
                    levels[address] = held.levels.get(ordinal, 0)
                    states[(job, ordinal)] = (held.preparation(ordinal), levels[address])
        raised = {address for address, level in levels.items() if level > 0}
        for address in sorted(raised ^ set(audit["admitted"])):
            self.complain("admission contradicts the journal", address)
        for address, level in audit["levels"].items():
            if levels.get(address, 0) != level:
                self.complain("the coordinator contradicts the node", f"{address}: {level}, not {levels.get(address, 0)}")
        self.counts["mailboxes recorded open"] += len(raised)
        for job, ordinal, preparation, level in self.facts(audit["coordinator"]):
            if states.get((job, ordinal)) != (preparation, level):
                self.complain("facts contradict the node's journal", f"job {job} mailbox {ordinal}: {preparation} on {level}, not {states.get((job, ordinal))}")

    def kept_records(self, kept):
        """One node's journal alone: what was acknowledged is in it."""
        states = {}
        for held in self.replay(kept["node"]).values():
            for ordinal, address in enumerate(held.addresses):
                states[address] = (held.preparation(ordinal), held.levels.get(ordinal, 0))
        for address in kept["prepared"]:
            if states.get(address, (0, 0))[0] != 1:
                self.complain("acknowledged as prepared, and not in the journal", address)
        for address in kept["open"]:
            if states.get(address, (0, 0))[1] == 0:
                self.complain("acknowledged as open, and not in the journal", address)

    def replay(self, node):
        jobs = {}
        for kind, record in self.records(node["export"], node["name"]):
            number = record.number(1)
            if kind == SNAPSHOT:
                for job in record.messages(2):
                    jobs[job.number(1)] = Held(addresses_of(node["state"], job.number(1))).restore(job)
            if kind in (2, 3, 4, 5, 6):
                held = jobs.setdefault(number, Held(addresses_of(node["state"], number)))
                fault = held.apply(kind, record)
                if fault:
                    self.complain(fault, f"{node['name']} job {number}")
        return jobs

    def records(self, export, whose):
        last = None
        with open(export, encoding="utf-8") as lines:
            lines = [json.loads(line) for line in lines]
            for snapshot in [line for line in lines if "snapshot_of" in line]:
                last = snapshot["snapshot_of"]
                lines = [line for line in lines if line.get("sequence", 0) > last]
                self.counts["snapshots"] += 1
                yield SNAPSHOT, Message(bytes.fromhex(snapshot["snapshot"]))
            for line in lines:
                if last is not None and line["sequence"] != last + 1:
                    self.complain("records missing", f"{whose} after {last}")
                last = line["sequence"]
                self.counts["records"] += 1
                for kind, value in fields(bytes.fromhex(line["payload"])):
                    if isinstance(value, bytes):
                        yield kind, Message(value)

    def check_claim(self, node, job, generation):
        with open(os.path.join(node["work"], "claims", str(job)), encoding="utf-8") as file:
            claimed = int(file.readline().split(" ")[0])
        if claimed < generation:
            self.complain("the store's claim is older than the journal's", f"{node['name']} job {job}")

    def facts(self, export):
        """What the coordinator was told last of every mailbox."""
        newest = {}
        for kind, record in self.records(export, "coordinator"):
            if kind == SNAPSHOT:
                states = iter(runs(record.blobs(13)[0]))
                for job, size in enumerate(record.numbers(12)):
                    newest.update({(job, at): state for at, state in zip(range(size), states) if state})
            if kind != 4:
                continue
            for report in record.messages(1):
                pairs = zip(report.numbers(3), b"".join(report.blobs(4)))
                newest.update({(report.number(1), ordinal): state for ordinal, state in pairs})
        return [(job, ordinal, state & 3, state >> 2 & 7) for (job, ordinal), state in newest.items()]


# What stands for all the records before it.
SNAPSHOT = "snapshot"


def runs(raw):
    """Bytes, each with the number of times that it is repeated."""
    at, values = 0, []
    while at < len(raw):
        repeated, after = varint(raw, at + 1)
        values += [raw[at]] * (repeated + 1)
        at = after
    return values


class Held:
    """One job, as a node's journal tells it."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.generation, self.levels, self.verified, self.aside = 0, {}, {}, set()

    def restore(self, job):
        self.generation = job.number(2)
        for ordinal, state in enumerate(runs(b"".join(job.blobs(5)))):
            self.levels[ordinal] = state >> 2 & 7
            if state & 3 == 1:
                self.verified[ordinal] = self.generation
            elif state & 3 == 2:
                self.aside.add(ordinal)
        return self

    def preparation(self, ordinal):
        return 2 if ordinal in self.aside else 1 if ordinal in self.verified else 0

    def apply(self, kind, record):
        generation = record.number(2)
        if kind == 2:
            older = generation < self.generation
            self.generation = generation
            # A new hand verifies what is not open anew.
            return "a claim goes back" if older else None
        if generation != self.generation:
            return f"generation {generation} acts under {self.generation}"
        if kind == 3:
            for settled in record.messages(3):
                ordinal = settled.number(1)
                self.aside.discard(ordinal)
                if settled.number(2):
                    self.aside.add(ordinal)
                else:
                    self.verified[ordinal] = generation
        elif kind == 4:
            for ordinal in record.numbers(3):
                self.verified.pop(ordinal, None)
                self.aside.discard(ordinal)
        elif kind == 5:
            return self.rise(record.number(3), record.numbers(4))
        elif kind == 6:
            for ordinal in record.numbers(3):
                self.levels[ordinal] = 0
                self.verified.pop(ordinal, None)
        return None

    def rise(self, level, ordinals):
        fault = None
        for ordinal in ordinals:
            before = self.levels.get(ordinal, 0)
            self.levels[ordinal] = level
            if before >= level:
                fault = "raised twice to one level"
            if before == 0 and self.verified.get(ordinal) != self.generation:
                fault = "opened unverified"
        return fault


def addresses_of(state, job):
    """The addresses of a job, from the description beside the journal."""
    directory = os.path.join(state, "jobs")
    for name in entries(directory):
        if re.fullmatch(rf"job-{job}-[0-9a-f]+", name):
            with open(os.path.join(directory, name), "rb") as file:
                mailboxes = Message(file.read()).messages(1)
            return [mailbox.blobs(2)[0].decode() for mailbox in mailboxes]
    return []


class Message:
    """A protobuf message without its description."""

    def __init__(self, raw):
        self.fields = list(fields(raw))

    def number(self, wanted):
        return next((value for at, value in self.fields if at == wanted), 0)

    def numbers(self, wanted):
        found = []
        for at, value in self.fields:
            if at == wanted:
                found += packed(value) if isinstance(value, bytes) else [value]
        return found

    def blobs(self, wanted):
        return [value for at, value in self.fields if at == wanted]

    def messages(self, wanted):
        return [Message(value) for value in self.blobs(wanted)]


def fields(raw):
    at = 0
    while at < len(raw):
        key, at = varint(raw, at)
        if key & 7 == 0:
            value, at = varint(raw, at)
        elif key & 7 == 2:
            length, at = varint(raw, at)
            value, at = raw[at:at + length], at + length
        else:
            size = 8 if key & 7 == 1 else 4
            value, at = int.from_bytes(raw[at:at + size], "little"), at + size
        yield key >> 3, value


def packed(raw):
    at, numbers = 0, []
    while at < len(raw):
        number, at = varint(raw, at)
        numbers.append(number)
    return numbers


def varint(raw, at):
    value, shift = 0, 0
    while True:
        byte = raw[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at


# BLAKE3, for the few messages that no side held intact --------------------------------------------

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXES = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
         (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
FIRST, LAST, PARENT, ROOT = 1, 2, 4, 8


def compress(chain, block, counter, length, flags):
    words = [int.from_bytes(block[at:at + 4], "little") for at in range(0, 64, 4)]
    state = [*chain, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, length, flags]
    for _ in range(7):
        for turn, (a, b, c, d) in enumerate(MIXES):
            for word, (right, left) in zip(words[2 * turn:2 * turn + 2], ((16, 12), (8, 7))):
                state[a] = (state[a] + state[b] + word) & 0xFFFFFFFF
                state[d] = rotated(state[d] ^ state[a], right)
                state[c] = (state[c] + state[d]) & 0xFFFFFFFF
                state[b] = rotated(state[b] ^ state[c], left)
        words = [words[at] for at in ORDER]
    return tuple(state[at] ^ state[at + 8] for at in range(8))


def rotated(word, by):
    return (word >> by | word << (32 - by)) & 0xFFFFFFFF


def chunk(raw, counter, flags):
    chain, blocks = IV, [raw[at:at + 64] for at in range(0, len(raw), 64)] or [b""]
    for at, block in enumerate(blocks):
        last = at == len(blocks) - 1
        marks = (FIRST if at == 0 else 0) | (LAST | flags if last else 0)
        chain = compress(chain, block.ljust(64, b"\0"), counter, len(block), marks)
    return chain


def tree(raw, counter, flags):
    if len(raw) <= 1024:
        return chunk(raw, counter, flags)
    left = 1 << ((len(raw) - 1) // 1024).bit_length() - 1
    halves = tree(raw[:left * 1024], counter, 0) + tree(raw[left * 1024:], counter + left, 0)
    block = b"".join(word.to_bytes(4, "little") for word in halves)
    return compress(IV, block, 0, 64, PARENT | flags)


def blake3(raw):
    return b"".join(word.to_bytes(4, "little") for word in tree(raw, 0, ROOT)).hex()


if __name__ == "__main__":
    main()
