import Synchronization

/// A mutex that closures can share.
final class SharedMutex: Sendable {
    let value = Mutex(0)
}
