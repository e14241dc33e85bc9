//! AES-256 in CBC mode without padding, as SQLCipher encrypts a page, by the cryptographic library that it calls itself.

/// Decrypts `data`, whole blocks of 16 bytes, in place; false if the library refuses. Call with a
/// [`Pass`](super::exit_gate::Pass).
pub(crate) fn decrypt(key: &[u8; 32], vector: &[u8; 16], data: &mut [u8]) -> bool {
    data.len().is_multiple_of(16) && library::decrypt(key, vector, data)
}

#[cfg(not(target_vendor = "apple"))]
mod library {
    use std::ffi::{c_int, c_void};
    use std::ptr;

    /// `EVP_CIPHER` and `EVP_CIPHER_CTX`: only pointers to them are passed on.
    #[repr(C)]
    struct Cipher([u8; 0]);
    #[repr(C)]
    struct Context([u8; 0]);

    // libcrypto, 1.1 and later; see EVP_EncryptInit(3).
    unsafe extern "C" {
        safe fn EVP_aes_256_cbc() -> *const Cipher;
        safe fn EVP_CIPHER_CTX_new() -> *mut Context;
        fn EVP_CIPHER_CTX_free(context: *mut Context);
        fn EVP_CIPHER_CTX_set_padding(context: *mut Context, padding: c_int) -> c_int;
        fn EVP_DecryptInit_ex(
            context: *mut Context,
            cipher: *const Cipher,
            engine: *const c_void,
            key: *const u8,
            vector: *const u8,
        ) -> c_int;
        fn EVP_DecryptUpdate(
            context: *mut Context,
            out: *mut u8,
            out_length: *mut c_int,
            data: *const u8,
            length: c_int,
        ) -> c_int;
    }

    /// Freed, with what it knows of the key, when dropped.
    struct Owned(*mut Context);

    impl Drop for Owned {
        fn drop(&mut self) {
            // SAFETY: made by `EVP_CIPHER_CTX_new` and freed once; null is allowed.
            unsafe { EVP_CIPHER_CTX_free(self.0) }
        }
    }

    pub(super) fn decrypt(key: &[u8; 32], vector: &[u8; 16], data: &mut [u8]) -> bool {
        let Ok(length) = c_int::try_from(data.len()) else { return false };
        let context = Owned(EVP_CIPHER_CTX_new());
        if context.0.is_null() {
            return false;
        }
        let mut written = 0;
        // SAFETY: the context is not null and lives through all calls; key and vector have the lengths of this cipher. Without
        // padding, `EVP_DecryptUpdate` writes at most `length` bytes, and may do so over its input.
        unsafe {
            EVP_DecryptInit_ex(context.0, EVP_aes_256_cbc(), ptr::null(), key.as_ptr(), vector.as_ptr()) == 1
                && EVP_CIPHER_CTX_set_padding(context.0, 0) == 1
                && EVP_DecryptUpdate(context.0, data.as_mut_ptr(), &raw mut written, data.as_ptr(), length) == 1
                && written == length
        }
    }
}

#[cfg(target_vendor = "apple")]
mod library {
    use std::ffi::c_void;

    // CommonCryptor.h; part of libSystem.
    const DECRYPT: u32 = 1;
    const AES: u32 = 0;
    const CBC_WITHOUT_PADDING: u32 = 0;
    unsafe extern "C" {
        fn CCCrypt(
            operation: u32,
            algorithm: u32,
            options: u32,
            key: *const c_void,
            key_length: usize,
            vector: *const c_void,
            data: *const c_void,
            length: usize,
            out: *mut c_void,
            room: usize,
            moved: *mut usize,
        ) -> i32;
    }

    pub(super) fn decrypt(key: &[u8; 32], vector: &[u8; 16], data: &mut [u8]) -> bool {
        let (length, mut moved) = (data.len(), 0);
        // SAFETY: key and vector have the lengths of the algorithm; without padding at most `length` bytes are written, which
        // may be done over the input.
        let code = unsafe {
            CCCrypt(
                DECRYPT,
                AES,
                CBC_WITHOUT_PADDING,
                key.as_ptr().cast(),
                key.len(),
                vector.as_ptr().cast(),
                data.as_ptr().cast(),
                length,
                data.as_mut_ptr().cast(),
                length,
                &raw mut moved,
            )
        };
        code == 0 && moved == length
    }
}

#[cfg(test)]
mod tests {
    /// NIST SP 800-38A, F.2.6.
    #[test]
    fn it_decrypts_as_published() {
        let bytes = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        let key = bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let vector = bytes("000102030405060708090a0b0c0d0e0f");
        let mut data = bytes("f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d");
        assert!(super::decrypt(&key.try_into().unwrap(), &vector.try_into().unwrap(), &mut data));
        assert_eq!(data, bytes("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"));
    }
}
