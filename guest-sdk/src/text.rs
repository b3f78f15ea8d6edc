//! Fast text: substring search that uses SIMD in the sandbox too, and sets and maps with a fast, fixed hash.

mod short;

/// Searches for one text many times: make it once in `new`, keep it in the rule.
///
/// ```
/// let finder = forebay_sdk::text::Finder::new("bot");
/// assert!(finder.is_in("Googlebot/2.1"));
/// assert_eq!(finder.find("Googlebot/2.1"), Some(6));
/// ```
#[derive(Debug, Clone)]
pub struct Finder {
    needle: Box<[u8]>,
    long: memchr::memmem::Finder<'static>,
}

impl Finder {
    /// A finder of `needle`.
    #[must_use]
    pub fn new(needle: &str) -> Self {
        let needle = Box::from(needle.as_bytes());
        let long = memchr::memmem::Finder::new(&needle).into_owned();
        Self { needle, long }
    }

    /// Where the needle first begins, in bytes.
    #[inline]
    #[must_use]
    pub fn find(&self, text: &str) -> Option<usize> {
        // What a native processor is asked for its abilities once, a module knows when it is compiled.
        if cfg!(target_arch = "wasm32") && text.len() <= short::LONGEST && !self.needle.is_empty() {
            short::find(&self.needle, text.as_bytes())
        } else {
            self.long.find(text.as_bytes())
        }
    }

    /// Whether the needle is in `text`.
    #[inline]
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.find(text).is_some()
    }
}

/// A set with a fast hash that is the same in every run. Who chooses the keys can make them collide; the sandbox's
/// deadline bounds what that costs.
pub type FastSet<K> = rustc_hash::FxHashSet<K>;

/// A map with the hash of [`FastSet`].
pub type FastMap<K, V> = rustc_hash::FxHashMap<K, V>;
