//! NUMA policies of mappings (mbind(2)), which the program's own call tells without any effect.

use inject::{Arg, Batch, InjectError, Injection};
use mem::{Mapping, VirtAddr};

/// How many mappings are asked for at most, the largest: each takes some 100 ns of the pause.
const MAPPINGS_MAX: usize = 2048;
/// How many mappings are asked for in one round trip.
const CHUNK: usize = 256;
/// Bytes of scratch memory for one of them: its answer, and an entry of the batch.
const BYTES_EACH: u64 = 8 + 96 + 8;

/// Bytes of scratch memory that asking for `mappings` needs at most.
pub(crate) fn scratch_bytes(mappings: usize) -> u64 {
    16 * 1024 + mappings.min(CHUNK) as u64 * BYTES_EACH
}

/// Addresses in the mappings that are worth to be asked for.
pub(crate) fn asked(mappings: &[Mapping]) -> Vec<VirtAddr> {
    let mut asked: Vec<_> = mappings
        .iter()
        .filter(|mapping| !matches!(mapping.backing, mem::Backing::Special(_)))
        .map(|mapping| mapping.range)
        .collect();
    asked.sort_unstable_by_key(|range| std::cmp::Reverse(range.len()));
    asked.truncate(MAPPINGS_MAX);
    asked.into_iter().map(|range| range.start).collect()
}

/// Those of `addresses`, each in a mapping, at which memory has a policy of its own. Empty on a
/// kernel without NUMA. Reserved places of the scratch memory are given back.
pub(crate) fn of_mappings(
    injection: &mut Injection<'_>,
    addresses: &[VirtAddr],
) -> Result<Vec<VirtAddr>, InjectError> {
    const MPOL_F_ADDR: u64 = 2;
    let mut found = Vec::new();
    for chunk in addresses.chunks(CHUNK) {
        injection.reset_scratch();
        let modes = injection.reserve(8 * chunk.len() as u64)?;
        let mut batch = Batch::new();
        let mut calls = Vec::new();
        for (number, address) in (0..).zip(chunk) {
            let mode = modes.part(8 * number, 8).map_or(Arg::Imm(0), Arg::Scratch);
            let args = [mode, 0.into(), 0.into(), address.0.into(), MPOL_F_ADDR.into()];
            calls.push(batch.call(libc::SYS_get_mempolicy, &args));
        }
        let answers = injection.run(&batch)?;
        let modes = injection.read_scratch(modes)?;
        for ((address, call), mode) in chunk.iter().zip(calls).zip(modes.as_chunks::<8>().0) {
            let [a, b, c, d, ..] = *mode;
            if answers.get(call).is_ok() && i32::from_ne_bytes([a, b, c, d]) != 0 {
                found.push(*address);
            }
        }
    }
    Ok(found)
}
