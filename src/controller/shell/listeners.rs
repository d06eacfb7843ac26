//! Who is told of what a watch hears.

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

/// The listeners of one watch.
pub(super) struct Listeners<T>(Vec<UnboundedSender<T>>);

impl<T> Default for Listeners<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone> Listeners<T> {
    /// What happens from now on.
    pub(super) fn listen(&mut self) -> UnboundedReceiver<T> {
        let (sender, receiver) = unbounded();
        self.0.push(sender);
        receiver
    }

    pub(super) fn tell(&self, news: &T) {
        for listener in &self.0 {
            // A controller that has ended listens no more.
            let _ = listener.unbounded_send(news.clone());
        }
    }
}
