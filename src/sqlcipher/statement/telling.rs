//! Pragmas that do nothing.

/// Pragmas that only tell something, whatever their argument.
pub(super) const TELLING: &[&str] = &[
    "cipher_provider",
    "cipher_provider_version",
    "cipher_status",
    "cipher_version",
    "collation_list",
    "compile_options",
    "database_list",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];
