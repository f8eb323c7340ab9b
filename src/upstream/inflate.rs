//! A compressed body, unpacked piece by piece.

use std::io::{Error, Result, Write};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};

/// One piece may not unpack to more than this: a real answer doesn't, a bomb does.
const MOST_UNPACKED: usize = 32 << 20;

pub enum Inflate {
    Gzip(Box<MultiGzDecoder<Out>>),
    Zlib(Box<ZlibDecoder<Out>>),
}

/// What has been unpacked and not yet taken.
#[derive(Default)]
pub struct Out(Vec<u8>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.0.len() + bytes.len() > MOST_UNPACKED {
            return Err(Error::other("the compressed body unpacks to too much"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Inflate {
    pub fn gzip() -> Self {
        Self::Gzip(Box::new(MultiGzDecoder::new(Out::default())))
    }

    pub fn zlib() -> Self {
        Self::Zlib(Box::new(ZlibDecoder::new(Out::default())))
    }

    /// Takes a packed piece; returns what could be unpacked with it.
    pub fn unpack(&mut self, packed: &[u8]) -> Result<Bytes> {
        let out = match self {
            Self::Gzip(decoder) => {
                decoder.write_all(packed)?;
                // What the decoder holds is given out at once: a stream's events must not wait.
                decoder.flush()?;
                decoder.get_mut()
            }
            Self::Zlib(decoder) => {
                decoder.write_all(packed)?;
                decoder.flush()?;
                decoder.get_mut()
            }
        };
        Ok(std::mem::take(&mut out.0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    fn text() -> Vec<u8> {
        (0..20_000u32)
            .flat_map(|n| n.to_string().into_bytes())
            .collect()
    }

    #[test]
    fn a_body_unpacks_whatever_the_pieces() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text()).expect("memory");
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(&text()).expect("memory");
        let gzip = gzip.finish().expect("memory");
        let zlib = zlib.finish().expect("memory");
        for size in [1, 7, 1000, usize::MAX] {
            for (packed, mut inflate) in [(&gzip, Inflate::gzip()), (&zlib, Inflate::zlib())] {
                let mut unpacked = Vec::new();
                for piece in packed.chunks(size.min(packed.len())) {
                    unpacked.extend_from_slice(&inflate.unpack(piece).expect("well packed"));
                }
                assert_eq!(unpacked, text(), "pieces of {size}");
            }
        }
    }

    #[test]
    fn what_was_flushed_is_given_out_at_once() {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(b"data: 1\n\n").expect("memory");
        packer.flush().expect("memory");
        let mut inflate = Inflate::gzip();
        assert_eq!(
            &inflate.unpack(packer.get_ref()).expect("well packed")[..],
            b"data: 1\n\n"
        );
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..64 {
            packer.write_all(&vec![0; 1 << 20]).expect("memory");
        }
        let packed = packer.finish().expect("memory");
        assert!(Inflate::gzip().unpack(&packed).is_err());
    }

    #[test]
    fn what_is_not_packed_is_an_error() {
        assert!(Inflate::gzip().unpack(b"{\"choices\": []}").is_err());
    }
}
