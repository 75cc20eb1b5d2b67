//! What things cost on this host. Measured by `check --calibrate`; the defaults are those of a
//! small virtual machine and serve where nothing was measured.

use plan::Treatment;

/// Speed of a codec on one core, and what it makes of typical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecCosts {
    /// Bytes of pages encoded per second.
    pub encode_bytes_per_s: u64,
    /// Bytes of pages decoded per second.
    pub decode_bytes_per_s: u64,
    /// Stored bytes for 1000 bytes of pages.
    pub stored_permille: u32,
}

/// What things cost on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCosts {
    /// A fault answered from memory, from the access to the next instruction.
    pub fault_us: u64,
    /// A random read of 4 KiB from the store's device, cold.
    pub read_latency_us: u64,
    /// Large reads from the store's device, cold.
    pub read_bytes_per_s: u64,
    /// Pages put into fresh memory of another process, one thread.
    pub install_bytes_per_s: u64,
    /// Pages copied out of a frozen process, one thread.
    pub copy_bytes_per_s: u64,
    /// The part of a checkpoint's pause that does not depend on its pages.
    pub capture_us: u64,
    /// From the start of a resume to the first instruction, without any page.
    pub start_us: u64,
    /// How many threads can work at once.
    pub cpus: u32,
    /// LZ4.
    pub lz4: CodecCosts,
    /// Zstandard, the level that is used outside of the pause.
    pub zstd: CodecCosts,
    /// Delta to a parent's frame.
    pub delta: CodecCosts,
    /// Typed numeric, lossless.
    pub typed: CodecCosts,
    /// Error-bounded.
    pub lossy: CodecCosts,
}

impl Default for HostCosts {
    fn default() -> Self {
        let codec = |encode_mb: u64, decode_mb: u64, stored_permille| CodecCosts {
            encode_bytes_per_s: encode_mb * 1_000_000,
            decode_bytes_per_s: decode_mb * 1_000_000,
            stored_permille,
        };
        Self {
            fault_us: 20,
            read_latency_us: 110,
            read_bytes_per_s: 600_000_000,
            install_bytes_per_s: 1_150_000_000,
            copy_bytes_per_s: 5_000_000_000,
            capture_us: 3_000,
            start_us: 14_000,
            cpus: 2,
            lz4: codec(600, 1_990, 500),
            zstd: codec(330, 690, 370),
            delta: codec(640, 2_000, 100),
            typed: codec(1_270, 2_380, 600),
            lossy: codec(350, 720, 100),
        }
    }
}

impl HostCosts {
    /// The codec of a treatment; `None` where the stored bytes are the pages, or nothing.
    pub(crate) fn codec(&self, treatment: Treatment) -> Option<CodecCosts> {
        match treatment {
            Treatment::Lz4 => Some(self.lz4),
            // What is spilled is encoded as zstd does it.
            Treatment::Zstd | Treatment::Spill | Treatment::Solid => Some(self.zstd),
            Treatment::Delta => Some(self.delta),
            Treatment::Typed => Some(self.typed),
            Treatment::Lossy => Some(self.lossy),
            _ => None,
        }
    }

    /// Bytes that `bytes` of pages are expected to add to a checkpoint.
    pub(crate) fn stored(&self, treatment: Treatment, bytes: u64) -> u64 {
        match self.codec(treatment) {
            Some(codec) => bytes.saturating_mul(codec.stored_permille.into()) / 1000,
            None if treatment == Treatment::Raw => bytes,
            None => 0,
        }
    }

    /// Microseconds to bring `bytes` of pages in, in bulk and in load order: reading, decoding
    /// and installing overlap, the slowest of them decides.
    pub(crate) fn load_us(&self, treatment: Treatment, bytes: u64) -> f64 {
        let read_bytes = match treatment {
            Treatment::Zero | Treatment::Dead | Treatment::Excluded => 0,
            Treatment::Parent | Treatment::File | Treatment::Twin | Treatment::Same => bytes,
            Treatment::Rule => bytes,
            other => self.stored(other, bytes),
        };
        let read_us = time_us(read_bytes, self.read_bytes_per_s);
        let install_us = time_us(bytes, self.install_bytes_per_s);
        let decode_us =
            self.codec(treatment).map_or(0.0, |codec| time_us(bytes, codec.decode_bytes_per_s));
        read_us.max((install_us + decode_us) / f64::from(self.cpus.max(1)))
    }

    /// Microseconds to bring `page_bytes` of pages in, in bulk, that are stored in `stored_bytes`: reading,
    /// decoding and installing overlap.
    pub fn load_all_us(&self, page_bytes: u64, stored_bytes: u64) -> u64 {
        let read_us = time_us(stored_bytes, self.read_bytes_per_s);
        let install_us = time_us(page_bytes, self.install_bytes_per_s);
        let decode_us = time_us(page_bytes, self.zstd.decode_bytes_per_s);
        whole(read_us.max((install_us + decode_us) / f64::from(self.cpus.max(1))))
    }

    /// Microseconds that a fault on a page costs the program.
    pub(crate) fn stall_us(&self, treatment: Treatment) -> f64 {
        let fault_us = self.fault_us as f64;
        match treatment {
            Treatment::Zero | Treatment::Dead | Treatment::Excluded => fault_us,
            // A whole frame has to be decoded for one page of it.
            other => {
                let frame_bytes = if self.codec(other).is_some() { 65536 } else { 0 };
                let decode_us = self
                    .codec(other)
                    .map_or(0.0, |codec| time_us(frame_bytes, codec.decode_bytes_per_s));
                fault_us + self.read_latency_us as f64 + decode_us
            }
        }
    }
}

/// Microseconds for `bytes` at `bytes_per_s`; a speed of 0 counts as 1.
pub(crate) fn time_us(bytes: u64, bytes_per_s: u64) -> f64 {
    bytes as f64 * 1e6 / bytes_per_s.max(1) as f64
}

/// The nearest whole number, 0 for what is below and for what is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, which is what is wanted here"
)]
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}
