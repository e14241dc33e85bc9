//! One test for each trap that a naive reader of the format falls into.
#![cfg(feature = "sops")]

#[path = "common/vectors.rs"]
mod vectors;

use std::fs;

use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsFormat, encrypt};
use strongroom::{KeySource, Reason, Secret, SopsKeySource};
use vectors::{KEY, altered, ok, resolve, text_of, value, vectors};

#[tokio::test]
async fn the_nonce_has_32_bytes_and_all_of_them_count() {
    assert_eq!(value("good/base.enc.yaml", "db_key").await, ok(KEY));
    // The base64 of a nonce whose last 20 bytes were cut off.
    let cut = |text: String| {
        let at = text.find("iv:").unwrap() + 3;
        format!("{}{}", &text[..at + 16], &text[at + text[at..].find(',').unwrap()..])
    };
    assert_eq!(altered("good/base.enc.yaml", "db_key", cut).await, Err(Reason::Tampered));
}

#[tokio::test]
async fn the_path_ends_with_a_colon() {
    assert_eq!(value("good/base.enc.yaml", "nested.deep").await, ok("down here"));
    assert_eq!(value("good/dots.enc.yaml", "[\"c:d\"]").await, ok("colon"));
}

#[tokio::test]
async fn the_index_of_a_list_is_not_part_of_the_path() {
    assert_eq!(value("good/types.enc.yaml", "list.3.1").await, ok("q"));
}

#[tokio::test]
async fn truth_values_are_hashed_with_a_capital_and_given_without() {
    assert_eq!(value("good/types.enc.yaml", "yes_bool").await, ok("true"));
    assert_eq!(value("good/types.enc.yaml", "no_bool").await, ok("false"));
}

#[tokio::test]
async fn keys_and_nulls_are_not_hashed() {
    assert_eq!(value("bad/null_added.yaml", "db_key").await, ok(KEY));
    assert_eq!(value("bad/unencrypted_renamed.yaml", "db_key").await, ok(KEY));
}

#[tokio::test]
async fn an_empty_string_is_not_ciphertext_and_not_a_key() {
    assert_eq!(value("bad/empty_added.yaml", "db_key").await, ok(KEY));
    assert_eq!(value("bad/empty_added.yaml", "added").await, Err(Reason::Empty));
}

#[tokio::test]
async fn the_default_suffix_applies_to_every_ancestor() {
    assert_eq!(value("good/ancestor.enc.yaml", "group_unencrypted.deep.inner").await, ok("open"));
    assert_eq!(value("bad/rule_removed.yaml", "db_key").await, ok(KEY));
}

#[tokio::test]
async fn unencrypted_values_are_hashed() {
    assert_eq!(value("bad/unencrypted_changed.yaml", "db_key").await, Err(Reason::Tampered));
    assert_eq!(value("bad/unencrypted_removed.yaml", "db_key").await, Err(Reason::Tampered));
}

#[tokio::test]
async fn mac_only_encrypted_has_its_own_beginning_of_the_hash() {
    assert_eq!(value("good/mac_only.enc.yaml", "db_key").await, ok(KEY));
    assert_eq!(value("bad/mac_only_switched_on.yaml", "db_key").await, Err(Reason::Tampered));
    assert_eq!(value("bad/mac_only_switched_off.yaml", "db_key").await, Err(Reason::Tampered));
}

#[tokio::test]
async fn a_value_that_no_mac_covers_is_no_key() {
    assert_eq!(value("good/mac_only.enc.yaml", "note_unencrypted").await, Err(Reason::Exposed));
    assert_eq!(value("good/base.enc.yaml", "note_unencrypted").await, ok("left in the clear"));
}

#[tokio::test]
async fn values_are_hashed_in_the_order_of_the_file() {
    assert_eq!(value("good/encrypted_suffix.enc.json", "deep.inner_enc.x").await, ok("below"));
    assert_eq!(value("bad/order_changed.yaml", "db_key").await, Err(Reason::Tampered));
}

#[tokio::test]
async fn values_need_not_be_utf8() {
    let bytes = resolve(&vectors().join("good/blob.enc.bin"), "data").await.unwrap();
    assert_eq!(bytes, (0..=255).cycle().take(768).collect::<Vec<u8>>());
}

#[tokio::test]
async fn key_lists_may_be_null_or_empty_or_missing() {
    for kind in ["kms", "gcp_kms", "hckms", "azure_kv", "hc_vault", "pgp"] {
        let null = |text: String| text.replace("\"age\": [", &format!("\"{kind}\": null, \"age\": ["));
        assert_eq!(altered("good/types.enc.json", "n", null).await, ok("12345678"), "{kind}");
        let empty = |text: String| text.replace("sops:\n", &format!("sops:\n    {kind}: []\n"));
        assert_eq!(altered("good/base.enc.yaml", "db_key", empty).await, ok(KEY), "{kind}");
    }
}

#[tokio::test]
async fn comments_in_lists_come_back_as_items_and_are_no_data() {
    assert!(
        text_of("good/types.enc.yaml").contains("- ENC[") && text_of("good/types.enc.yaml").contains("type:comment]")
    );
    assert_eq!(value("good/types.enc.yaml", "list.0").await, ok("a"));
    assert_eq!(value("bad/item_as_comment.yaml", "db_key").await, Err(Reason::Tampered));
    // No data, but not to be altered either.
    let flip = |text: String| {
        let item = text.find("- ENC[").unwrap() + "- ENC[AES256_GCM,data:".len();
        let other = if text[item..].starts_with('A') { "B" } else { "A" };
        format!("{}{other}{}", &text[..item], &text[item + 1..])
    };
    assert!(text_of("good/types.enc.yaml").split("- ENC[").nth(1).unwrap().contains("type:comment]"));
    assert_eq!(altered("good/types.enc.yaml", "text", flip).await, Err(Reason::Tampered));
}

#[tokio::test]
async fn every_recipient_is_tried() {
    // The first recipient of the file is the third key of the identity file.
    let identity = |number: usize| {
        let text = text_of("keys.txt");
        text.lines().filter(|line| line.starts_with("AGE-")).nth(number).unwrap().to_owned()
    };
    for (number, opens) in [(0, true), (1, false), (2, true)] {
        let source = SopsKeySource::at(vectors().join("good/two_recipients.enc.yaml"))
            .identities(IdentitySources::none().secret(identity(number)));
        assert_eq!(source.resolve().await.is_ok(), opens, "identity {number}");
    }
}

#[tokio::test]
async fn the_x_byte_stands_at_the_end_of_a_share() {
    assert_eq!(value("good/shamir_2_of_3.enc.yaml", "db_key").await, ok(KEY));
    assert_eq!(value("good/shamir_3_of_3.enc.json", "db_key").await, ok("shared"));
    assert_eq!(value("bad/share_lost.yaml", "db_key").await, ok(KEY));
    assert_eq!(value("bad/share_twice.yaml", "db_key").await, Err(Reason::Malformed));
}

#[tokio::test]
async fn key_groups_are_ignored_where_keys_stand_at_the_top() {
    let groups =
        "sops:\n    key_groups:\n        - age: [{recipient: x, enc: y}]\n        - age: [{recipient: x, enc: y}]\n";
    assert_eq!(altered("good/base.enc.yaml", "db_key", |text| text.replace("sops:\n", groups)).await, ok(KEY));
}

#[tokio::test]
async fn several_groups_need_a_threshold_of_at_least_two() {
    assert_eq!(value("bad/threshold_missing.yaml", "db_key").await, Err(Reason::Malformed));
    assert_eq!(value("bad/threshold_one.yaml", "db_key").await, Err(Reason::Malformed));
    assert_eq!(value("good/shamir_one_group.enc.yaml", "db_key").await, ok(KEY));
}

#[tokio::test]
async fn the_sops_block_stands_in_every_document() {
    assert!(text_of("good/multi.enc.yaml").matches("\nsops:").count() > 2);
    assert_eq!(value("good/multi.enc.yaml", "db_key").await, ok("one"));
}

#[tokio::test]
async fn a_missing_mac_is_a_mac_that_does_not_match() {
    assert_eq!(value("bad/mac_missing.yaml", "db_key").await, Err(Reason::Tampered));
    assert_eq!(value("bad/mac_empty.yaml", "db_key").await, Err(Reason::Tampered));
    let source = SopsKeySource::at(vectors().join("bad/mac_missing.yaml"))
        .identities(IdentitySources::none().file(vectors().join("keys.txt")));
    assert!(source.resolve().await.unwrap_err().to_string().ends_with("mac_missing.yaml: it has no MAC"));
}

#[tokio::test]
async fn no_error_shows_what_was_refused() {
    let planted = "PLANTED-PLAINTEXT";
    let folder = tempfile::tempdir().unwrap();
    let base = text_of("good/base.enc.yaml");
    let broken = [
        base.replacen("db_key: ENC", &format!("db_key: {planted} ENC"), 1),
        base.replacen("db_key: ", &format!("db_key: [{planted}, "), 1),
        base.replacen("db_key: ", &format!("{planted}: 1\n{planted}: 1\ndb_key: "), 1),
        base.replacen("mac: ", &format!("mac: {planted} "), 1),
        base.replacen("lastmodified: ", &format!("shamir_threshold: {planted}\n    lastmodified: "), 1),
        base.replacen("unencrypted_suffix: ", &format!("unencrypted_regex: '({planted}'\n    x: "), 1),
        format!("{planted}: *{planted}\n{base}"),
        format!("{{\"{planted}\": {planted}}}"),
    ];
    for (number, text) in broken.into_iter().enumerate() {
        for name in ["s.yaml", "s.json", "s.env", "s.ini", "s.bin"] {
            let file = folder.path().join(name);
            fs::write(&file, &text).unwrap();
            let source = SopsKeySource::at(&file).identities(IdentitySources::none().file(vectors().join("keys.txt")));
            let error = source.resolve().await.unwrap_err();
            let mut shown = format!("{error} {error:?}");
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                shown += &inner.to_string();
                cause = inner.source();
            }
            assert!(!shown.contains("PLANTED") && !shown.contains("ENC["), "{number} as {name}: {shown}");
            assert!(shown.contains(name), "{number}: the file is not named: {shown}");
        }
    }
}

#[tokio::test]
async fn age_armor_may_have_white_space_around_it() {
    let wide = |text: String| {
        text.replace("\"enc\": \"", "\"enc\": \"\\n \\t")
            .replace("-----END AGE ENCRYPTED FILE-----\\n", "-----END AGE ENCRYPTED FILE-----\\n \\r\\n  ")
    };
    assert_eq!(altered("good/types.enc.json", "n", wide).await, ok("12345678"));
}

#[tokio::test]
async fn a_post_quantum_line_does_not_spoil_the_identity_file() {
    let folder = tempfile::tempdir().unwrap();
    let (identity, key) = (AgeIdentity::generate(), Secret::new("k"));
    let own = std::str::from_utf8(identity.secret().expose()).unwrap();
    fs::write(folder.path().join("keys.txt"), format!("AGE-SECRET-KEY-PQ-1QQQQ\nAGE-PLUGIN-X-1QQ\n{own}\n")).unwrap();
    fs::write(
        folder.path().join("s.yaml"),
        encrypt(SopsFormat::Yaml, &[("db_key", &key)], &[identity.recipient()]).unwrap(),
    )
    .unwrap();
    let source = SopsKeySource::at(folder.path().join("s.yaml"))
        .identities(IdentitySources::none().file(folder.path().join("keys.txt")));
    assert_eq!(source.resolve().await.unwrap().expose(), b"k");
}

#[tokio::test]
async fn a_moment_in_lastmodified_is_bound_by_its_meaning() {
    let zone = |text: String| {
        let at = text.find("lastmodified: ").unwrap();
        let end = at + text[at..].find('Z').unwrap();
        format!("{}.250+00:00{}", &text[..end], &text[end + 1..])
    };
    assert_eq!(altered("good/base.enc.yaml", "db_key", zone).await, ok(KEY));
    assert_eq!(value("bad/lastmodified_changed.yaml", "db_key").await, Err(Reason::Tampered));
}

#[tokio::test]
async fn bits_behind_the_last_byte_of_a_base64_text_are_ignored() {
    // The last of 22 letters stands for two bits of the tag and four that mean nothing.
    let spare_bits = |text: String| {
        let end = text.find("==,type:").unwrap();
        let (letters, at) = ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", end - 1);
        let letter = letters.find(&text[at..end]).unwrap();
        format!("{}{}{}", &text[..at], &letters[letter + 1..][..1], &text[end..])
    };
    assert_eq!(altered("good/base.enc.yaml", "db_key", spare_bits).await, ok(KEY));
}
