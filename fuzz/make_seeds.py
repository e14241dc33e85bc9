#!/usr/bin/env python3
"""Writes the seed corpora; those of the SOPS targets come from the test vectors."""

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

SETTINGS = {
    "yml": "db:\n  pool:   { min_size: 1, max_size: 10, acquire_timeout: 30.0 }\n  retry:  { max_attempts: 3, delay: 0.5 }\n"
    '  cipher: { enabled: true, key_source: env, key_env: "APP_KEY", sops_path: null, sops_key: "db_key" }\n',
    "toml": "[db.pool]\nmin_size = 0\nacquire_timeout = 2.5\n[db.retry]\ndelay = 1\n[db.cipher]\nenabled = true\n"
    "key_source = 'sops'\nsops_path = 'secrets.yml'\n",
    "json": '{ "db": { "pool": { "max_size": 99999999999 }, "cipher": { "enabled": "true", "key_source": "passphrase" } } }',
}
for number, (suffix, text) in enumerate(SETTINGS.items()):
    seed("config_file", suffix, bytes([number, 0]) + text.encode())
    for setting in range(13):
        seed("config_file", f"{suffix}_setting_{setting}", bytes([number, setting + 1]) + b"5 \"quoted\" \xc3\xa9")
for name, bytes_ in {
    "first": b"\0pone\nptwo",
    "behind_failures": b"\x02\x00\n\x01\n\x04\nmsecret\nrraw",
    "empty": b"\x01p\np\n\x00",
    "nobody": b"\x03\x00\n\x00\n\x03\n\x05",
    "nested": b"\x01\x00\n\x04\nplast",
}.items():
    seed("key_chain", name, bytes_)
for name, text in {
    "nothing": "\0",
    "passphrase": "\7HOME\ndb_key\ntyped",
    "empty": "\4\n\n",
    "variable": "\1PATH",
    "unset": "\3NO_SUCH_KEY\ndb_key",
    "sops": "\2\ndb_key",
    "sops_index": "\2\nnested.list.2",
    "sops_brackets": '\2\n["nested"]["deep"]',
    "sops_number": "\2\nnumber",
    "sops_missing": "\2\nnested.no",
}.items():
    seed("key_resolve", name, text)
for name, text in {"line": "a key\n", "windows": "a key\r\n", "hex": "0123456789abcdefABCDEF" + "0" * 42 + "\n", "raw": "k" * 32}.items():
    seed("key_file", name, text)
