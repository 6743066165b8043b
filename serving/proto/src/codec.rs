//! The protobuf codec of our services: tonic's own, except that a message which does not decode is the
//! caller's fault (`INVALID_ARGUMENT`), not ours (`INTERNAL`). Text that is not UTF-8 ends here.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec as TonicCodec, DecodeBuf, Decoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Encodes `T`, decodes `U`.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> TonicCodec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BlamingDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BlamingDecoder(PhantomData)
    }
}

/// Decodes `U`.
#[derive(Debug)]
pub struct BlamingDecoder<U>(PhantomData<U>);

impl<U: Message + Default + 'static> Decoder for BlamingDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        ProstDecoder::default()
            .decode(buf)
            .map_err(|status| Status::invalid_argument(format!("invalid message: {}", status.message())))
    }
}
