//! What a program's headers say of how it is started: ELF-64, little endian (elf(5)).

use anyhow::{Context, Result, bail};

const TYPE_INTERPRETER: u32 = 3;

/// Whether the kernel would look for a dynamic loader: a program header of that type.
pub(super) fn asks_for_an_interpreter(elf: &[u8]) -> Result<bool> {
    let number = |at: usize, bytes: usize| -> Result<u64> {
        let field = elf.get(at..at + bytes).context("the file ends in the middle of its headers")?;
        Ok(field.iter().rev().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    };
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("no 64-bit ELF program");
    }
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for n in 0..count {
        let at = usize::try_from(start + n * size).context("headers beyond the file")?;
        if number(at, 4)? == u64::from(TYPE_INTERPRETER) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_told_from_one_without() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(asks_for_an_interpreter(&own).unwrap());
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert!(!asks_for_an_interpreter(&elf).unwrap());
        elf[56] = 1;
        assert!(asks_for_an_interpreter(&elf[..40]).is_err());
        assert!(asks_for_an_interpreter(b"#!/bin/sh").is_err());
    }
}
