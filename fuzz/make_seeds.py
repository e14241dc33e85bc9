#!/usr/bin/env python3
"""Writes the seed corpora of the SOPS targets from the test vectors."""

import pathlib

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent / "tests/vectors/sops"


def seed(target, name, content):
    folder = HERE / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


for number, name in enumerate(["base.enc.yaml", "types.enc.json", "types.enc.env", "types.enc.ini", "text.enc.txt"]):
    seed("sops_document", name, bytes([number]) + (VECTORS / "good" / name).read_bytes())
seed("sops_document", "multi.enc.yaml", b"\0" + (VECTORS / "good/multi.enc.yaml").read_bytes())
for number in range(7):
    for kind in range(6):
        seed("sops_altered", f"file_{number}_kind_{kind}", bytes([number, kind, 20, 0, 90, 1, 2]))
base = (VECTORS / "good/base.enc.yaml").read_text()
block = base[base.index("sops:\n") + 6 :]
seed("sops_metadata", "yaml", "\n".join(line[4:] for line in block.splitlines()))
env = (VECTORS / "good/shamir.enc.env").read_text()
flat = "\n".join(line[5:] for line in env.splitlines() if line.startswith("sops_"))
seed("sops_metadata", "flat", flat)
seed("sops_identity", "keys.txt", (VECTORS / "keys.txt").read_bytes())
seed("sops_identity", "foreign", "AGE-SECRET-KEY-PQ-1QQ\nAGE-PLUGIN-X-1QQ\n")
seed("sops_identity", "armor", "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n")
for number, path in enumerate(["db_key", "nested.list.1", '["a.b"][0]', "['x\"y']"]):
    seed("sops_path", str(number), path)
line = next(line for line in base.splitlines() if line.startswith("db_key"))
seed("sops_value", "sealed", line.removeprefix("db_key: "))
for number, text in enumerate(["0x1F", "1_000", "2024-1-2", "2024-01-02t03:04:05.60+02:00", "-.inf", "0777", "1e3"]):
    seed("sops_value", f"plain_{number}", text)
seed("sops_shamir", "bytes", bytes(range(256)) * 2)
