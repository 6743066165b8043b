//! Threads for reading long bodies. To decompress one and to parse it takes so long that it would hold up the
//! threads that serve connections, and whoever is waiting for those: callers of other tenants, probes.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use api::{ApiError, BodyMeter};
use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// Half of the machine, or one core of it.
#[derive(Debug)]
pub(crate) struct ReadingThreads {
    /// None once they were ended.
    runtime: Option<Runtime>,
}

impl ReadingThreads {
    /// Starts them, on a machine of so many cores.
    ///
    /// # Errors
    /// The system refuses threads.
    pub(crate) fn start(cores: usize) -> io::Result<Self> {
        let threads = (cores / 2).max(1);
        let runtime =
            Builder::new_multi_thread().worker_threads(threads).thread_name("read").enable_time().build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// What `read` reads of a body: here, for as long as it is short, and on these threads once it is long
    /// and `leave` was given. Dropping the future ends it.
    ///
    /// # Errors
    /// What `read` or `leave` says.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        body: &BodyMeter,
        mut read: BoxFuture<'static, Result<T, ApiError>>,
        leave: impl Future<Output = Result<(), ApiError>>,
    ) -> Result<T, ApiError> {
        let here = poll_fn(|context| {
            if body.may_be_long() { Poll::Ready(None) } else { read.as_mut().poll(context).map(Some) }
        });
        if let Some(result) = here.await {
            return result;
        }
        leave.await?;
        match &self.runtime {
            Some(runtime) => AbortOnDropHandle::new(runtime.spawn(read)).await.map_err(ApiError::internal)?,
            None => read.await,
        }
    }
}

impl Drop for ReadingThreads {
    fn drop(&mut self) {
        // The last owner may be a task, where nothing may be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::thread;

    use futures_util::FutureExt;

    use super::*;

    /// The name of the thread that has read a body to its end, which came in pieces of so many bytes.
    fn reader(body: &BodyMeter, pieces: &[usize]) -> Option<String> {
        let serving = Builder::new_current_thread().build().unwrap();
        let threads = ReadingThreads::start(2).unwrap();
        let (meter, pieces) = (body.clone(), pieces.to_vec());
        let read = async move {
            for piece in pieces {
                meter.came(piece).unwrap();
                tokio::task::yield_now().await;
            }
            Ok(thread::current().name().map(str::to_owned))
        };
        serving.block_on(threads.read(body, read.boxed(), async { Ok(()) })).unwrap()
    }

    #[test]
    fn long_bodies_are_read_elsewhere() {
        let check = |body: BodyMeter, pieces: &[usize], is_elsewhere: bool| {
            let name = reader(&body, pieces);
            assert_eq!(name.as_deref() == Some("read"), is_elsewhere, "{pieces:?}: {name:?}");
        };
        check(BodyMeter::default(), &[], false);
        check(BodyMeter::default(), &[10, 1000], false);
        check(BodyMeter::default(), &[65_535], false);
        check(BodyMeter::default(), &[65_535, 1], true);
        check(BodyMeter::default(), &[1 << 20, 10], true);
        let read = std::future::pending::<Result<(), ApiError>>().boxed();
        let body = BodyMeter::default();
        body.decoded(1 << 20);
        let threads = ReadingThreads::start(2).unwrap();
        let refused = threads.read(&body, read, async { Err(ApiError::BodyIncomplete) });
        assert!(refused.now_or_never().unwrap().is_err(), "nothing is read without leave");
        let compressed = BodyMeter::within(std::time::Duration::from_secs(1), true);
        check(compressed, &[10], true);
    }
}
