#!/usr/bin/env python3
"""Reads a rekindle checkpoint with nothing but docs/FORMAT.md, rekindle.proto and the Python
standard library, checks every checksum and hash, and prints what it holds as JSON.

    read_checkpoint.py CHECKPOINT [--key FILE] [--proto FILE] [--pages FILE]

CHECKPOINT is the directory STORE/checkpoints/ID; its parents lie beside it. The key is taken from
the store unless --key names it. --pages writes the bytes of all pages, one after the other, in the order of the JSON
list "frames". This program proves that the format's description is complete; it is slow.

Frames of numbers may hold pco files, which only the package "pcodec" (with numpy) reads here. Without it
the bytes of such pages are not known: their hashes are checked among each other, and --pages is refused.
"""

import argparse
import functools
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

PAGE = 4096
CONTENT_LABEL = b"rekindle: a page and its place\0\0"


class Refused(Exception):
    """The checkpoint is not what it should be."""


def need(condition, message):
    if not condition:
        raise Refused(message)


# ------------------------------------------------------------------ checksums


def _crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0x82F63B78 if byte & 1 else byte >> 1
        table.append(byte)
    return table


CRC32C = _crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


# ------------------------------------------------------------------ BLAKE3, keyed mode

IV = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
    0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
# Each quarter round's four words and the position of its two message words.
ROUND = (
    (0, 4, 8, 12, 0), (1, 5, 9, 13, 2), (2, 6, 10, 14, 4), (3, 7, 11, 15, 6),
    (0, 5, 10, 15, 8), (1, 6, 11, 12, 10), (2, 7, 8, 13, 12), (3, 4, 9, 14, 14),
)  # fmt: skip
MASK = 0xFFFFFFFF


def compress(chaining, block, counter, length, flags):
    v = list(chaining) + list(IV[:4]) + [counter & MASK, counter >> 32, length, flags]
    m = block
    for number in range(7):
        for a, b, c, d, at in ROUND:
            va, vb, vc, vd = v[a], v[b], v[c], v[d]
            va = (va + vb + m[at]) & MASK
            vd ^= va
            vd = (vd >> 16 | vd << 16) & MASK
            vc = (vc + vd) & MASK
            vb ^= vc
            vb = (vb >> 12 | vb << 20) & MASK
            va = (va + vb + m[at + 1]) & MASK
            vd ^= va
            vd = (vd >> 8 | vd << 24) & MASK
            vc = (vc + vd) & MASK
            vb ^= vc
            vb = (vb >> 7 | vb << 25) & MASK
            v[a], v[b], v[c], v[d] = va, vb, vc, vd
        if number < 6:
            m = [m[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def keyed_hash(key, data):
    """BLAKE3 keyed_hash(key, data), 32 bytes."""
    key_words = struct.unpack("<8I", key)

    def chunk(piece, counter, last_flags):
        chaining = key_words
        blocks = [piece[i : i + 64] for i in range(0, len(piece), 64)] or [b""]
        for i, block in enumerate(blocks):
            flags = KEYED | (CHUNK_START if i == 0 else 0)
            if i == len(blocks) - 1:
                flags |= CHUNK_END | last_flags
            words = struct.unpack("<16I", block.ljust(64, b"\0"))
            chaining = compress(chaining, words, counter, len(block), flags)
        return chaining

    def tree(piece, counter, last_flags):
        if len(piece) <= 1024:
            return chunk(piece, counter, last_flags)
        # The left side is the largest power of two of whole chunks that leaves a rest.
        left = 1024
        while left * 2 < len(piece):
            left *= 2
        sides = tree(piece[:left], counter, 0) + tree(piece[left:], counter + left // 1024, 0)
        return compress(key_words, sides, 0, 64, KEYED | PARENT | last_flags)

    return struct.pack("<8I", *tree(data, 0, ROOT))


# ------------------------------------------------------------------ codecs


def lz4_block(data, size):
    out = bytearray()
    at = 0

    def length(start):
        nonlocal at
        if start == 15:
            while True:
                more = data[at]
                at += 1
                start += more
                if more != 255:
                    break
        return start

    try:
        while True:
            token = data[at]
            at += 1
            literals = length(token >> 4)
            need(at + literals <= len(data), "lz4 literals run past the end")
            out += data[at : at + literals]
            at += literals
            if at == len(data):
                break
            distance = data[at] | data[at + 1] << 8
            at += 2
            need(0 < distance <= len(out), "lz4 match begins before the frame")
            for _ in range(length(token & 15) + 4):
                out.append(out[-distance])
            need(len(out) <= size, "lz4 block is too long")
    except IndexError:
        raise Refused("lz4 block is cut short") from None
    return bytes(out)


WIDTHS = (None, 1, 2, 4, 8, 1, 2, 4, 8, 4, 8)


FORMATS = (None, "B", "H", "I", "Q", "b", "h", "i", "q", "f", "d")


def pco_file(data):
    """The numbers of a pco file as bytes, and as a list; None when nobody here can read it."""
    try:
        from pcodec import standalone
    except ImportError:
        return None
    return standalone.simple_decompress(data)


def lossy_head(data, size):
    """Form, type, the part of the frame in which numbers may have changed, and what follows."""
    need(len(data) >= 10, "a lossy frame is too short")
    form, kind, start, end = struct.unpack_from("<BBII", data)
    need(form in (1, 2) and 0 < kind < len(WIDTHS), "a lossy frame of no form or type")
    need(start < end <= size and (end - start) % WIDTHS[kind] == 0, "a lossy frame's part")
    return form, kind, start, end, 10 + start + size - end


def quantised(data, kind, count):
    bound, exceptions = struct.unpack_from("<dI", data)
    need(bound > 0 and exceptions <= count, "a lossy frame's bound or exceptions")
    width = WIDTHS[kind]
    places = struct.unpack_from(f"<{exceptions}H", data, 12)
    exact, at = 12 + 2 * exceptions, 12 + (2 + width) * exceptions
    steps = pco_file(data[at:])
    if steps is None:
        return None
    need(len(steps) == count, "a lossy frame has another number of steps")
    if kind >= 9:
        values = [float(int(k)) * (2 * bound) for k in steps]
    else:
        far = int(bound)
        values = [int(k) * (2 * far + 1) + far for k in steps]
    out = bytearray(struct.pack(f"<{count}{FORMATS[kind]}", *values))
    for n, place in enumerate(places):
        out[place * width : (place + 1) * width] = data[exact + n * width : exact + (n + 1) * width]
    return bytes(out)


def lossy_frame(data, size):
    form, kind, start, end, at = lossy_head(data, size)
    part = data[at:]
    part = quantised(part, kind, (end - start) // WIDTHS[kind]) if form == 1 else typed_frame(part, end - start)
    if part is None:
        return None
    return data[10 : 10 + start] + part + data[10 + start : at]


def typed_frame(data, size):
    need(len(data) > 2 and data[1] < len(WIDTHS) and data[1], "a frame of numbers of no type")
    need(data[0] in (1, 2), f"a frame of numbers of form {data[0]}, which this does not read")
    if data[0] == 2:
        numbers = pco_file(data[2:])
        return None if numbers is None else numbers.tobytes()
    planes, width = lz4_block(data[2:], size), WIDTHS[data[1]]
    need(len(planes) == size, "a frame of numbers has another length")
    count = size // width // 8 * 8
    out = bytearray(count * width)
    for plane in range(8 * width):
        bits = planes[plane * count // 8 : (plane + 1) * count // 8]
        for n in range(count):
            out[n * width + plane // 8] |= (bits[n // 8] >> n % 8 & 1) << plane % 8
    return bytes(out) + planes[count * width :]


def zstd_frame(data, prefix=b""):
    try:
        from compression import zstd  # Python 3.14

        base = zstd.ZstdDict(prefix, is_raw=True).as_prefix if prefix else None
        return zstd.decompress(data, base)
    except ImportError:
        pass
    need(shutil.which("zstd"), "a zstd frame needs Python 3.14 or the zstd program")
    with tempfile.NamedTemporaryFile() as base:
        base.write(prefix)
        base.flush()
        options = [f"--patch-from={base.name}"] if prefix else []
        return subprocess.run(
            ["zstd", "-dcq", *options], input=data, stdout=subprocess.PIPE, check=True
        ).stdout


# ------------------------------------------------------------------ Protocol Buffers


def parse_proto(text):
    """The messages and enumerations of a schema: {name: {number: (name, type, kind)}}, kind is
    'repeated', 'optional' or '', and {name: {number: name}}."""
    messages, enums, current = {}, {}, None
    text = re.sub(r"//[^\n]*", "", text)
    token = re.compile(
        r"(?P<open>message|enum|oneof)\s+(?P<name>\w+)\s*\{"
        r"|(?:(?P<label>repeated|optional)\s+)?(?P<type>\w+)\s+(?P<field>\w+)\s*=\s*(?P<number>\d+)\s*;"
        r"|(?P<value>\w+)\s*=\s*(?P<code>\d+)\s*;"
        r"|(?P<close>\})"
    )
    stack = []
    for match in token.finditer(text):
        if match["open"]:
            stack.append(match["open"])
            if match["open"] != "oneof":
                current = (messages if match["open"] == "message" else enums).setdefault(
                    match["name"], {}
                )
        elif match["close"]:
            stack.pop()
        elif match["field"] and stack:
            label = match["label"] or ("optional" if stack[-1] == "oneof" else "")
            current[int(match["number"])] = (match["field"], match["type"], label)
        elif match["value"] and stack:
            current[int(match["code"])] = match["value"]
    return messages, enums


def varint(data, at):
    value = shift = 0
    while True:
        need(at < len(data) and shift < 70, "a varint is cut short")
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value & (1 << 64) - 1, at


class Schema:
    def __init__(self, text):
        self.messages, self.enums = parse_proto(text)

    def scalar(self, kind, raw):
        if kind in self.enums:
            need(raw in self.enums[kind] and raw != 0, f"{kind} has no value {raw}")
            return self.enums[kind][raw]
        if kind == "double":
            return struct.unpack("<d", struct.pack("<Q", raw))[0]
        if kind == "bool":
            return bool(raw)
        if kind == "sint32" or kind == "sint64":
            return raw >> 1 ^ -(raw & 1)
        if kind == "int32":
            return struct.unpack("<i", struct.pack("<I", raw & MASK))[0]
        if kind == "uint32":
            return raw & MASK
        return raw

    def length_delimited(self, kind, piece):
        if kind in self.messages:
            return [self.decode(kind, piece)]
        if kind == "string":
            return [piece.decode()]
        if kind == "bytes":
            return [piece.hex()]
        values, at = [], 0  # packed
        while at < len(piece):
            if kind == "fixed64":
                values.append(struct.unpack_from("<Q", piece, at)[0])
                at += 8
            else:
                raw, at = varint(piece, at)
                values.append(self.scalar(kind, raw))
        return values

    def default(self, kind, label):
        if label == "repeated":
            return []
        if label == "optional" or kind in self.messages:
            return None
        return {"bool": False, "string": "", "bytes": ""}.get(kind, 0)

    def decode(self, name, data):
        """A message as a dictionary by field name; bytes are hex."""
        fields = self.messages[name]
        value = {field: self.default(kind, label) for field, kind, label in fields.values()}
        at = 0
        while at < len(data):
            tag, at = varint(data, at)
            number, wire = tag >> 3, tag & 7
            if wire == 0:
                raw, at = varint(data, at)
            elif wire == 1:
                need(at + 8 <= len(data), "a fixed field is cut short")
                raw, at = struct.unpack_from("<Q", data, at)[0], at + 8
            elif wire == 2:
                size, at = varint(data, at)
                need(at + size <= len(data), "a field is cut short")
                raw, at = data[at : at + size], at + size
            else:
                raise Refused(f"{name} has wire type {wire}")
            if number not in fields:
                continue  # a later version's field
            field, kind, label = fields[number]
            is_piece = isinstance(raw, bytes)
            values = self.length_delimited(kind, raw) if is_piece else [self.scalar(kind, raw)]
            if label == "repeated":
                value[field].extend(values)
            else:
                value[field] = values[-1]
        return value


# ------------------------------------------------------------------ the files


def read(directory, name):
    with open(os.path.join(directory, name), "rb") as file:
        return file.read()


def read_header(manifest):
    need(manifest[:8] == b"\x89RKDL\r\n\x1a", "the manifest has another magic number")
    version = struct.unpack_from("<I", manifest, 8)[0]
    need(version <= 1, f"the manifest has format version {version}, this reads 1")
    need(len(manifest) >= 128 + 32, "the manifest is cut short")
    names = "version size length flags id created_ns instance fingerprint page_bytes stored_bytes"
    fields = struct.unpack_from("<IIQQQQ16s16sQQIIQQH", manifest, 8)
    names += " sections table_crc parent referenced_bytes depth"
    header = dict(zip(names.split(), fields))
    need(crc32c(manifest[:124]) == struct.unpack_from("<I", manifest, 124)[0], "header checksum")
    need(header["flags"] & MASK == 0, "the header has unknown required flags")
    need(header["length"] == len(manifest), "the manifest has another length")
    return header


KNOWN = {1: "Instance", 2: "Plan", 3: "Files", 4: "Summary", 6: "Loss"}


def read_manifest(manifest, header, key, schema):
    need(keyed_hash(key, b"rekindle line key")[:16] == header["fingerprint"], "another key")
    need(header["sections"] <= 64, "too many sections")
    start, end = 128 + 48 * header["sections"], len(manifest) - 32
    need(start <= end, "the section table is cut short")
    table = manifest[128:start]
    need(crc32c(table) == header["table_crc"], "section table checksum")
    need(keyed_hash(key, manifest[:end]) == manifest[end:], "the manifest's hash")
    sections, next_offset = {}, start
    for at in range(0, len(table), 48):
        kind, version, flags, offset, length, crc, _, name = struct.unpack_from(
            "<IHHQQII16s", table, at
        )
        name = name.rstrip(b"\0").decode("ascii")
        need(offset == next_offset and offset + length <= end, f"section {name} is out of place")
        next_offset += length
        data = manifest[offset:next_offset]
        need(crc32c(data) == crc, f"section {name} checksum")
        if kind in KNOWN and version <= 1:
            need(kind not in sections, f"section {name} occurs twice")
            sections[kind] = schema.decode(KNOWN[kind], data)
        else:
            need(not flags & 1, f"section {name} (kind {kind}, version {version}) is required")
    need(next_offset == end, "the sections do not fill the manifest")
    need({1, 2, 3} <= sections.keys(), "a required section is missing")
    return sections


TREATMENTS = (
    None, "raw", "zero", "lz4", "zstd", "delta", "typed", "lossy", "file", "twin", "rule",
    "dead", "same", "spill", "parent", "excluded", "solid",
)  # fmt: skip
SOLID_BYTES = 1 << 20
TIERS = (None, "critical", "warm", "cold")
MEMORIES = (None, "private", "shared")


def read_index(index, header, entry, key):
    need(index[:8] == b"\x89RKIX\r\n\x1a", "the index has another magic number")
    need(len(index) == int(entry["length_bytes"]), "the index has another length")
    version, size, record, _, count, identity = struct.unpack_from("<IIIIQQ", index, 8)
    need(version == 1 and size == 64 and record == 64, "the index has another version")
    need(crc32c(index[:60]) == struct.unpack_from("<I", index, 60)[0], "index header checksum")
    need(len(index) == 64 + 64 * count, "the index has another number of frames")
    need(identity == header["id"], "the index is that of another checkpoint")
    need(keyed_hash(key, index).hex() == entry["hash"], "the index's hash")
    before, frames = (0, 0, -1), []
    for at in range(64, len(index), 64):
        need(crc32c(index[at : at + 60]) == struct.unpack_from("<I", index, at + 60)[0], "record")
        (page, number, pages, kind, tier, treatment, depth, mask, file, offset, stored, order, digest,
         stored_crc) = struct.unpack_from("<QIIBBBBHHQII16sI", index, at)  # fmt: skip
        need((kind, number) > before[:2] or page >= before[2], "the index is not sorted")
        before = (kind, number, page + pages)
        name = TREATMENTS[treatment]
        if name == "parent":
            need(pages and not (depth or mask or file or offset or stored or stored_crc), "a run")
            need(digest == bytes(16), "a run of the parent's pages has a hash")
        else:
            need(1 <= pages <= 16 and page // 16 == (page + pages - 1) // 16, "a frame's pages")
            range_mask = (1 << pages) - 1 << page % 16
            need(mask & range_mask, "a frame holds none of its pages")
            need(name != "zero" or mask == range_mask, "a zero frame has other pages")
            need(name == "solid" or (depth > 0) == (name == "delta"), "a frame's number of deltas")
            most = SOLID_BYTES if name == "solid" else mask.bit_count() * PAGE
            need(stored <= most, "a frame has too many stored bytes")
        frames.append({
            "memory": f"{MEMORIES[kind]}:{number}", "first_page": page, "pages": pages,
            "tier": TIERS[tier], "treatment": name, "deltas": 0 if name == "solid" else depth, "held": mask,
            "slot": depth if name == "solid" else 0,
            "offset": offset, "stored_bytes": stored, "load_order": order, "hash": digest,
            "file": file, "stored_crc": stored_crc, "place": (kind, number),
        })  # fmt: skip
    return frames


def read_hashes(data, header, count):
    need(data[:8] == b"\x89RKPH\r\n\x1a", "the page hashes have another magic number")
    version, size, width, _, found, identity = struct.unpack_from("<IIIIQQ", data, 8)
    need(version == 1 and size == 64 and width == 16, "the page hashes have another version")
    need(crc32c(data[:60]) == struct.unpack_from("<I", data, 60)[0], "page hashes checksum")
    need(identity == header["id"], "the page hashes are those of another checkpoint")
    need(found == count and len(data) == 64 + 16 * count, "another number of page hashes")
    return [data[at : at + 16] for at in range(64, len(data), 16)]


def page_hash(page, key):
    return keyed_hash(key, page)[:16] if any(page) else bytes(16)


class Checkpoint:
    """A checkpoint and its parents; `pages` is {(kind, number, page): bytes} of all of it."""

    def __init__(self, directory, key_path, schema):
        manifest = read(directory, "manifest")
        self.header = header = read_header(manifest)
        self.instance = header["instance"].rstrip(b"\0").decode("ascii")
        with open(key_path or f"{directory}/../../lines/{self.instance}/key", "rb") as file:
            self.key = file.read()
        need(len(self.key) == 32, "the key has another length")
        self.sections = read_manifest(manifest, header, self.key, schema)
        files = self.sections[3]
        self.parent = None
        need((header["depth"] > 0) == bool(files["parent"]), "a parent that is none")
        if files["parent"]:
            beside = os.path.join(directory, os.pardir, files["parent"]["id"])
            self.parent = Checkpoint(beside, key_path, schema)
            content = self.parent.sections[3]["content"]
            need(files["parent"]["content"] == content, "the parent holds something else")
        self.read_files(directory, len(manifest), files)

    def read_files(self, directory, total, files):
        header, key = self.header, self.key
        index = read(directory, files["index"]["name"])
        self.frames = read_index(index, header, files["index"], key)
        stored = [f for f in self.frames if f["treatment"] not in ("zero", "parent")]
        count = sum(f["held"].bit_count() for f in stored)
        hashes = read(directory, files["hashes"]["name"])
        need(len(hashes) == int(files["hashes"]["length_bytes"]), "page hashes: another length")
        self.hashes = iter(read_hashes(hashes, header, count))
        self.data_files = [read(directory, entry["name"]) for entry in files["data"]]
        paths = {t["number"]: bytes.fromhex(t["identity"]["path"]) for t in files["twins"]}
        need(len(paths) == len(files["twins"]), "two twin files have one number")
        self.twins = paths
        total += len(index) + len(hashes)
        for number, (entry, data) in enumerate(zip(files["data"], self.data_files)):
            need(len(data) == int(entry["length_bytes"]), f"data file {number}: another length")
            check_filling(self.frames, number, data)
            total += len(data)
        need(total == header["stored_bytes"], "the files have other lengths than the header says")
        self.pages, self.page_hashes, referenced, content = {}, {}, 0, 0
        for frame in self.frames:
            referenced += self.read_frame(frame)
            for page in range(frame["first_page"], frame["first_page"] + frame["pages"]):
                place = (*frame["place"], page)
                block = struct.pack("<IIQ", *place) + self.page_hashes[place] + CONTENT_LABEL
                content += int.from_bytes(keyed_hash(key, block), "little")
        need(len(self.pages) * PAGE == header["page_bytes"], "more or less pages than it says")
        need(referenced * PAGE == header["referenced_bytes"], "more or less of the parent's pages")
        content = (content % 2**256).to_bytes(32, "little")
        need(content.hex() == files["content"], "the content hash")

    def read_frame(self, frame):
        """Adds a frame's pages; says how many of them are the parent's."""
        first, chunk = frame["first_page"], frame["first_page"] // 16 * 16
        places = [(*frame["place"], first + n) for n in range(frame["pages"])]
        held = [(*frame["place"], chunk + n) for n in range(16) if frame["held"] >> n & 1]
        for place in places:
            if place not in held:
                need(self.parent and place in self.parent.pages, f"page {place} is nowhere")
                self.pages[place] = self.parent.pages[place]
                self.page_hashes[place] = self.parent.page_hashes[place]
        if frame["treatment"] == "parent":
            return len(places)
        base = b""
        if frame["treatment"] == "delta":
            need(self.parent, "a delta without a parent")
            base = [self.parent.pages.get(place, b"") for place in held]
            need(None not in base, "a delta to numbers that only pcodec reads")
            base = b"".join(base)
            need(base and base[:4] != b"\x37\xa4\x30\xec", "a delta's base")
        pages = decode_frame(frame, len(held) * PAGE, self.data_files, base, self.twins)
        name, written = f"page {first:#x}", []
        if frame["treatment"] != "zero":
            written = [next(self.hashes) for _ in held]
        hashes = written if pages is None else []
        for n, place in enumerate(held):
            page = None
            if pages is not None:
                page = pages[n * PAGE : n * PAGE + PAGE]
                hashes.append(page_hash(page, self.key))
            if place in places:
                self.pages[place] = page
                self.page_hashes[place] = hashes[n]
        if frame["treatment"] == "lossy":
            self.check_loss(frame, held)
        if frame["treatment"] != "zero":
            need(hashes == written, f"page hashes from {name} on")
            need(keyed_hash(self.key, b"".join(hashes))[:16] == frame["hash"], f"hash of {name}")
        return sum(place not in held for place in places)


    def check_loss(self, frame, held):
        """Every frame with a loss is in a range that the manifest names, within its bound."""
        start = frame["offset"]
        stored = self.data_files[frame["file"]][start : start + frame["stored_bytes"]]
        form, kind, start, end, at = lossy_head(stored, len(held) * PAGE)
        first, last = (held[byte // PAGE][2] * PAGE + byte % PAGE for byte in (start, end - 1))
        memory = ("MEMORY_KIND_PRIVATE", "MEMORY_KIND_SHARED")[frame["place"][0] - 1]
        need(frame["tier"] != "critical", "critical memory that lost something")
        for entry in self.sections.get(6, {"entries": []})["entries"]:
            span = entry["range_relative"]
            bound = span["fraction"] * span["span"] if span else entry["absolute"]
            is_here = (
                (entry["memory_kind"], entry["memory_number"]) == (memory, frame["place"][1])
                and entry["start"] <= first
                and last < entry["end"]
                and entry["type"] == kind
            )
            is_bound = struct.unpack_from("<d", stored, at)[0] <= bound if bound and form == 1 else False
            if is_here and (is_bound or (form == 2 and entry["relative"])):
                return
        raise Refused(f"page {first // PAGE:#x} lost something that nobody named")


def twin_pages(stored, size, twins):
    """Pages that a file outside of the store has."""
    need(len(stored) == 16 and stored[4:8] == bytes(4), "a twin frame tells no place")
    number, offset = struct.unpack("<I4xQ", stored)
    need(number in twins, f"twin file {number} is not listed")
    with open(twins[number], "rb") as file:
        file.seek(offset)
        return file.read(size)


@functools.lru_cache(maxsize=4)
def solid_parts(stored):
    """The pages of each of the chunks that share these bytes."""
    need(stored and len(stored) > stored[0] + 1, "shared bytes end among their parts")
    counts = [count + 1 for count in stored[1 : stored[0] + 2]]
    need(max(counts) <= 16 and sum(counts) * PAGE <= SOLID_BYTES, "parts of too many pages")
    pages = zstd_frame(stored[stored[0] + 2 :])
    need(len(pages) == sum(counts) * PAGE, "shared bytes decode to another length")
    ends = [sum(counts[: n + 1]) * PAGE for n in range(len(counts))]
    return [pages[end - count * PAGE : end] for end, count in zip(ends, counts)]


def solid_part(stored, slot):
    parts = solid_parts(bytes(stored))
    need(slot < len(parts), "shared bytes do not have a frame's part")
    return parts[slot]


def decode_frame(frame, size, data_files, base, twins):
    treatment = frame["treatment"]
    if treatment == "zero":
        need(frame["stored_bytes"] == 0 and frame["hash"] == bytes(16), "a zero frame has bytes")
        return bytes(size)
    start = frame["offset"]
    stored = data_files[frame["file"]][start : start + frame["stored_bytes"]]
    need(len(stored) == frame["stored_bytes"], "a frame lies outside of its file")
    need(crc32c(stored) == frame["stored_crc"], f"stored bytes of page {frame['first_page']:#x}")
    if treatment == "raw":
        pages = stored
    elif treatment == "lz4":
        pages = lz4_block(stored, size)
    elif treatment == "zstd":
        pages = zstd_frame(stored)
    elif treatment == "typed":
        pages = typed_frame(stored, size)
    elif treatment == "lossy":
        pages = lossy_frame(stored, size)
    elif treatment == "delta":
        pages = zstd_frame(stored, base)
    elif treatment == "solid":
        pages = solid_part(stored, frame["slot"])
    elif treatment == "twin":
        pages = twin_pages(stored, size, twins)
    else:
        raise Refused(f"no decoder for treatment {treatment}")
    need(pages is None or len(pages) == size, "a frame decodes to another length")
    return pages


def check_filling(frames, number, data):
    """What no frame of a file has is zero."""
    places = sorted(
        (f["offset"], f["offset"] + f["stored_bytes"])
        for f in frames
        if f["file"] == number and f["stored_bytes"]
    )
    end = 0
    for start, stop in places + [(len(data), len(data))]:
        filling = data[end:start]
        need(not any(filling), f"data file {number}: altered filling")
        end = max(end, stop)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--key")
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--proto", default=f"{here}/../../crates/image/proto/rekindle.proto")
    parser.add_argument("--pages")
    arguments = parser.parse_args()

    with open(arguments.proto, encoding="utf-8") as file:
        schema = Schema(file.read())
    shown = Checkpoint(arguments.checkpoint, arguments.key, schema)
    header, sections = shown.header, shown.sections
    if arguments.pages:
        need(None not in shown.pages.values(), "numbers that only pcodec reads: install it")
        with open(arguments.pages, "wb") as sink:
            for place in sorted(shown.pages):
                sink.write(shown.pages[place])
    for frame in shown.frames:
        frame["hash"] = frame["hash"].hex()
        del frame["place"]
    json.dump(
        {
            "id": f"{header['id']:016x}",
            "instance_id": shown.instance,
            "created_ns": header["created_ns"],
            "page_bytes": header["page_bytes"],
            "stored_bytes": header["stored_bytes"],
            "referenced_bytes": header["referenced_bytes"],
            "parent": f"{header['parent']:016x}" if header["depth"] else None,
            "depth": header["depth"],
            "instance": sections[1],
            "plan": sections[2],
            "files": sections[3],
            "summary": sections.get(4),
            "loss": sections.get(6),
            "frames": shown.frames,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError, struct.error, UnicodeDecodeError, subprocess.CalledProcessError) as refused:
        print(f"read_checkpoint: {refused}", file=sys.stderr)
        sys.exit(1)
