public import ForkGuard
import Glibc

/// A lock on a file, between processes, by fcntl(2): one process has it, and in it one call of ``tryLock()``.
///
/// A child does not inherit such locks, whatever its copy of the parent's memory says. So nothing is remembered that another process could believe: the kernel is asked, and
/// what tells the threads of this process apart carries the generation. (The other kind, locks of the open file description, is inherited: parent and child have it both, and either one's
/// unlock ends it for both.)
///
/// Any thread, any side of a fork. As with all locks of this kind, closing another descriptor of the same file in this process gives the lock up; ``holder()`` tells.
public final class FileLock: ForkSafe {
    /// What the system said.
    public struct Failure: Error, Equatable, CustomStringConvertible {
        /// The call that failed.
        public let call: String
        /// Its error.
        public let errno: Int32

        /// Both, in words.
        public var description: String { "\(call): \(String(cString: strerror(errno)))" }
    }

    private let descriptor: ForkDescriptor
    /// In which generation a call took it that has not given it back.
    private let taken = ForkMutex<UInt64?>(nil, name: "FileLock", ifTorn: .rebuild { nil })

    /// Opens the file, makes it if need be, and locks nothing. A child gets a description of its own.
    ///
    /// - Throws: `Failure`.
    public init(path: String) throws {
        descriptor = try ForkDescriptor(.reopen, name: "lock file") {
            let number = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
            guard number >= 0 else { throw Failure(call: "open \(path)", errno: errno) }
            return number
        }
        ForkGuard.register(self)
    }

    deinit { try? descriptor.close() }

    /// The child has not got it.
    public func discardAfterFork() { _ = taken.withLockIfAvailable { $0 = nil } }

    /// Takes it, if nobody has it. Does not wait.
    ///
    /// - Returns: false when another process has it, or this one, by an earlier call.
    /// - Throws: `Failure`; `ForkError.staleGeneration` in a child that could not open the file again.
    public func tryLock() throws -> Bool {
        try taken.withLock { taken in
            if let taken, ForkGuard.isCurrent(taken) { return false }
            guard try change(to: F_WRLCK) else { return false }
            taken = ForkGuard.generation
            return true
        }
    }

    /// Gives it back. In a child that never took it, and for who has it not, nothing.
    public func unlock() throws {
        try taken.withLock { taken in
            guard let generation = taken, ForkGuard.isCurrent(generation) else { return }
            taken = nil
            _ = try change(to: F_UNLCK)
        }
    }

    /// The process that has it now, as the kernel says; `nil` when nobody has.
    public func holder() throws -> Int32? {
        try descriptor.withNumber { number in
            // Asked on behalf of the description, for which the process is somebody else: else its own locks would not be named.
            var wanted = region(F_WRLCK)
            guard fcntl(number, getDescriptionLock, &wanted) == 0 else { throw Failure(call: "fcntl F_OFD_GETLK", errno: errno) }
            return wanted.l_type == Int16(F_UNLCK) ? nil : wanted.l_pid
        }
    }

    /// Whether this process has it, asked.
    public var isHeld: Bool { (try? holder()) == getpid() }

    private func change(to type: Int32) throws -> Bool {
        try descriptor.withNumber { number in
            var wanted = region(type)
            if fcntl(number, F_SETLK, &wanted) == 0 { return true }
            if errno == EAGAIN || errno == EACCES { return false }
            throw Failure(call: "fcntl F_SETLK", errno: errno)
        }
    }

    private func region(_ type: Int32) -> flock {
        flock(l_type: Int16(type), l_whence: Int16(SEEK_SET), l_start: 0, l_len: 0, l_pid: 0)
    }
}

/// `F_OFD_GETLK` of fcntl(2), which Swift's Glibc has not.
private let getDescriptionLock: Int32 = 36
