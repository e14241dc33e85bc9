//! Who may read a file on Windows, as its access list says.
#![allow(dead_code, unreachable_pub, unsafe_code, reason = "shared by tests; the system's calls for access lists")]

use std::os::windows::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::null_mut;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW, ConvertStringSecurityDescriptorToSecurityDescriptorW,
    GetNamedSecurityInfoW, SDDL_REVISION_1, SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{DACL_SECURITY_INFORMATION, SetFileSecurityW};

fn wide(text: impl AsRef<std::ffi::OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

/// The list in the language for those; "WD" is everybody.
pub fn list_of(path: &Path) -> String {
    let (mut descriptor, mut text, mut length) = (null_mut(), null_mut(), 0);
    // SAFETY: the path ends with a zero, and what the system makes is freed once it was copied.
    unsafe {
        let (path, what) = (wide(path), DACL_SECURITY_INFORMATION);
        let no = null_mut();
        let code =
            GetNamedSecurityInfoW(path.as_ptr(), SE_FILE_OBJECT, what, no, no, null_mut(), null_mut(), &mut descriptor);
        assert_eq!(code, 0);
        let revision = SDDL_REVISION_1;
        let done =
            ConvertSecurityDescriptorToStringSecurityDescriptorW(descriptor, revision, what, &mut text, &mut length);
        assert_ne!(done, 0);
        let copied = std::slice::from_raw_parts(text, length as usize);
        let copied = String::from_utf16_lossy(copied).trim_end_matches('\0').to_owned();
        LocalFree(text.cast());
        LocalFree(descriptor);
        copied
    }
}

/// Gives a file this list, and nothing from its folder.
pub fn give(path: &Path, list: &str) {
    let mut descriptor = null_mut();
    // SAFETY: as above.
    unsafe {
        let (list, revision) = (wide(list), SDDL_REVISION_1);
        let made =
            ConvertStringSecurityDescriptorToSecurityDescriptorW(list.as_ptr(), revision, &mut descriptor, null_mut());
        assert_ne!(made, 0);
        assert_ne!(
            SetFileSecurityW(wide(path).as_ptr(), DACL_SECURITY_INFORMATION, descriptor),
            0,
            "{}",
            path.display()
        );
        LocalFree(descriptor);
    }
}

/// Takes the file from everybody but the user who runs this. Needs the feature `sops`, as the files that call it say.
pub fn make_private(path: &Path) {
    // The identifier of this user stands in the list of what is made for it alone.
    let other = path.with_extension("whoami");
    strongroom::keys::sops::AgeIdentity::generate().write(&other).unwrap();
    let list = list_of(&other);
    std::fs::remove_file(other).unwrap();
    give(path, &list);
}
