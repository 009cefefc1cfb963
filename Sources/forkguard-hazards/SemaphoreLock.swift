import Dispatch
import ForkGuard

/// A semaphore that is used as a lock, as those who register one would write it.
// @unchecked: the semaphore is another one only in a child, while `reinitialize` runs there and no other thread exists.
final class SemaphoreLock: ForkableLock, @unchecked Sendable {
    private var semaphore = DispatchSemaphore(value: 1)

    func lock() { semaphore.wait() }
    func unlock() { semaphore.signal() }
    func tryLock() -> Bool { semaphore.wait(timeout: .now()) == .success }

    func reinitialize() {
        // Leaked: one that is freed while it is taken is a trap.
        _ = Unmanaged.passRetained(semaphore)
        semaphore = DispatchSemaphore(value: 1)
    }
}
