//! By Windows' access lists and numbers of files.
//!
//! Source: "Access Control" in Microsoft's documentation; who may read a private key beside its user is what Windows'
//! OpenSSH says, too. "Creating and Opening Files" there: who wants neither to read nor to write is not asked what others share.
#![allow(unsafe_code, reason = "the system's calls for access lists and numbers; every block says why it is sound")]

use std::ffi::c_void;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::AsRawHandle as _;
use std::path::Path;
use std::ptr::null_mut;

use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_SUCCESS, GENERIC_ALL, GENERIC_READ, GENERIC_WRITE, HANDLE, LocalFree,
};
use windows_sys::Win32::Security::Authorization::{GetSecurityInfo, SE_FILE_OBJECT};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACL, ACL_REVISION, AddAccessAllowedAce, DACL_SECURITY_INFORMATION, EqualSid, GetAce,
    GetTokenInformation, INHERIT_ONLY_ACE, InitializeAcl, InitializeSecurityDescriptor, IsWellKnownSid,
    OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID, SE_DACL_PROTECTED, SECURITY_DESCRIPTOR,
    SetKernelObjectSecurity, SetSecurityDescriptorControl, SetSecurityDescriptorDacl, TOKEN_QUERY, TOKEN_USER,
    TokenUser, WinBuiltinAdministratorsSid, WinCreatorOwnerRightsSid, WinLocalSystemSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_ALL_ACCESS, FILE_APPEND_DATA, FILE_FLAG_BACKUP_SEMANTICS, FILE_READ_ATTRIBUTES,
    FILE_READ_DATA, FILE_WRITE_DATA, GetFileInformationByHandle, READ_CONTROL, WRITE_DAC, WRITE_OWNER,
};
use windows_sys::Win32::System::SystemServices::SECURITY_DESCRIPTOR_REVISION;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// What nobody else may have: to read and to write, and to give oneself the right to.
const EXPOSING: u32 = FILE_READ_DATA
    | FILE_WRITE_DATA
    | FILE_APPEND_DATA
    | WRITE_DAC
    | WRITE_OWNER
    | GENERIC_ALL
    | GENERIC_READ
    | GENERIC_WRITE;

/// What [`create`] opens its file for.
const OPENED_FOR: u32 = GENERIC_READ | GENERIC_WRITE | READ_CONTROL | WRITE_DAC;

/// Types of entries: those that allow something to one user or group, and those that deny.
const ALLOWING: [u8; 2] = [0, 9];
const DENYING: [u8; 4] = [1, 6, 10, 12];

/// Room for the information on a user, whose identifier has at most 68 bytes.
type UserBuffer = [u64; 32];

/// Makes a file that only this user may read, where nothing was before, and opens it for reading and writing.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).access_mode(OPENED_FOR);
    loop {
        // Shared with nobody until it has its list, so that nobody has it open from before.
        let file = options.clone().create_new(true).share_mode(0).open(path)?;
        if let Err(error) = keep_for_user(&file) {
            drop(file);
            std::fs::remove_file(path).ok();
            return Err(error);
        }
        drop(file);
        match options.open(path) {
            // One who sweeps has taken it for left over.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
}

/// Whether others than this user, the owner, administrators and the system itself may read or write an open file.
pub(crate) fn is_exposed(file: &File) -> io::Result<bool> {
    let (rights, mut buffer) = (ListedRights::of_file(file)?, UserBuffer::default());
    let user = user(&mut buffer)?;
    // SAFETY: the list is part of the descriptor, which `rights` keeps.
    let Some(list) = (unsafe { rights.list.as_ref() }) else { return Ok(true) };
    for at in 0..u32::from(list.AceCount) {
        let mut entry = null_mut();
        // SAFETY: the list is one that the system made, and has an entry of this number.
        if unsafe { GetAce(rights.list, at, &raw mut entry) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: every entry begins with its header, and that of an allowing one is followed by a mask and an identifier.
        let (header, mask) = unsafe {
            let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
            ((*entry).Header, (*entry).Mask)
        };
        if u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0 || DENYING.contains(&header.AceType) {
            continue;
        }
        let whom = || {
            // SAFETY: as above; the identifier lies within the entry.
            unsafe { (&raw mut (*entry.cast::<ACCESS_ALLOWED_ACE>()).SidStart).cast::<c_void>() }
        };
        // Entries of other types, for the properties of objects, do not stand in the lists of files.
        let is_known = ALLOWING.contains(&header.AceType);
        if !is_known || (mask & EXPOSING != 0 && !may_know(whom(), user, rights.owner)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `whom` may read everything anyway, or is the user.
fn may_know(whom: PSID, user: PSID, owner: PSID) -> bool {
    // SAFETY: all are identifiers within buffers that live as long as this call.
    unsafe {
        EqualSid(whom, user) != 0
            || (!owner.is_null() && EqualSid(whom, owner) != 0)
            || [WinLocalSystemSid, WinBuiltinAdministratorsSid, WinCreatorOwnerRightsSid]
                .iter()
                .any(|known| IsWellKnownSid(whom, *known) != 0)
    }
}

/// The file that `path` means, with the numbers that tell it from one that takes its name: of its disk, and its own there.
pub(crate) fn look(path: &Path) -> io::Result<(Metadata, [u64; 2])> {
    let file = opened(path, FILE_READ_ATTRIBUTES)?;
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and what it is written to lives here.
    if unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let number = u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow);
    Ok((file.metadata()?, [found.dwVolumeSerialNumber.into(), number]))
}

/// A file or folder that is asked something, and neither read nor written: also one that somebody shares with nobody.
fn opened(path: &Path, access: u32) -> io::Result<File> {
    OpenOptions::new().access_mode(access).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path)
}

/// How to make the file one that is not exposed.
pub(crate) fn way_out(shown: impl std::fmt::Display) -> String {
    format!("run: icacls \"{shown}\" /inheritance:r /grant:r \"%USERNAME%:F\"")
}

/// Gives an open file a list with this user alone in it, which takes nothing over from its folder.
fn keep_for_user(file: &File) -> io::Result<()> {
    const SIZE: u32 = 256;
    let (mut list, mut buffer) = ([0_u32; SIZE as usize / 4], UserBuffer::default());
    let (user, list) = (user(&mut buffer)?, list.as_mut_ptr().cast::<ACL>());
    // SAFETY: the list has room for an entry with the longest identifier, and is aligned for it.
    let made = unsafe {
        InitializeAcl(list, SIZE, ACL_REVISION) != 0
            && AddAccessAllowedAce(list, ACL_REVISION, FILE_ALL_ACCESS, user) != 0
    };
    if made { set(file, list) } else { Err(io::Error::last_os_error()) }
}

/// Without what the folder would add, which only the calls for names and inheritance do.
fn set(file: &File, list: *const ACL) -> io::Result<()> {
    let mut descriptor = SECURITY_DESCRIPTOR::default();
    let at = (&raw mut descriptor).cast::<c_void>();
    // SAFETY: the descriptor lives here, the list as long as this call, and the handle is open; the system makes copies.
    let done = unsafe {
        InitializeSecurityDescriptor(at, SECURITY_DESCRIPTOR_REVISION) != 0
            && SetSecurityDescriptorDacl(at, 1, list, 0) != 0
            && SetSecurityDescriptorControl(at, SE_DACL_PROTECTED, SE_DACL_PROTECTED) != 0
            && SetKernelObjectSecurity(file.as_raw_handle(), DACL_SECURITY_INFORMATION, at) != 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The identifier of the user of this process.
fn user(buffer: &mut UserBuffer) -> io::Result<PSID> {
    let mut token: HANDLE = null_mut();
    // SAFETY: the handle of the own process needs no closing; the other one is closed below.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let mut length = 0;
    let room = buffer.as_mut_ptr().cast::<c_void>();
    let size = u32::try_from(size_of::<UserBuffer>()).unwrap_or(0);
    // SAFETY: the buffer is as large as it is said to be.
    let asked = unsafe { GetTokenInformation(token, TokenUser, room, size, &raw mut length) };
    let error = io::Error::last_os_error();
    // SAFETY: opened above.
    unsafe { CloseHandle(token) };
    if asked == 0 {
        return Err(error);
    }
    // SAFETY: the buffer begins with this now, and the identifier lies in its rest.
    Ok(unsafe { (*room.cast::<TOKEN_USER>()).User.Sid })
}

fn succeeded(code: u32) -> io::Result<()> {
    if code == ERROR_SUCCESS { Ok(()) } else { Err(io::Error::from_raw_os_error(code.cast_signed())) }
}

/// Who may read and write a file.
pub(crate) struct ListedRights {
    descriptor: PSECURITY_DESCRIPTOR,
    /// Within the descriptor; null: everybody may do everything.
    list: *mut ACL,
    owner: PSID,
}

impl ListedRights {
    /// Those of the file at `path`.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Self::of_file(&opened(path, READ_CONTROL)?)
    }

    fn of_file(file: &File) -> io::Result<Self> {
        let mut rights = Self { descriptor: null_mut(), list: null_mut(), owner: null_mut() };
        let what = DACL_SECURITY_INFORMATION | OWNER_SECURITY_INFORMATION;
        // SAFETY: the handle is open; the system makes a descriptor, into which the others point, and which is freed on drop.
        let code = unsafe {
            GetSecurityInfo(
                file.as_raw_handle(),
                SE_FILE_OBJECT,
                what,
                &raw mut rights.owner,
                null_mut(),
                &raw mut rights.list,
                null_mut(),
                &raw mut rights.descriptor,
            )
        };
        succeeded(code).map(|()| rights)
    }

    /// Gives `file`, which [`create`] has made, the same list.
    pub(crate) fn give(&self, file: &File) -> io::Result<()> {
        set(file, self.list)
    }
}

impl Drop for ListedRights {
    fn drop(&mut self) {
        // SAFETY: made by `GetSecurityInfo`, or null.
        unsafe { LocalFree(self.descriptor) };
    }
}
