internal import CForkGuard

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// A descriptor that knows which opening of its number it is, and which process opened it.
///
/// Closed by one thread, a descriptor's number is the next connection of another; inherited by a child, it is the parent's connection. So a number is not kept: this
/// token is, and asked for the number at each use. A stale one throws before any system call. While a use lasts, the number stays what it is: who closes the token meanwhile wakes the use (of a
/// socket that is not kept) and lets it close the number when it ends.
///
/// A value, plain data: copies stand for the same opening, and nothing is closed when they go away; ``close()`` does it. Any thread, any side of a fork, also in hooks.
public struct ForkDescriptor: Sendable, Hashable {
    /// What a child finds under the number.
    public enum InChild: Sendable {
        /// Nothing: every read, write, `lseek`, `send` and `epoll_ctl` on the number fails, and nobody is handed it out again. The peer and the parent notice
        /// nothing. The token throws ``ForkError/staleGeneration(_:generation:)``. For connections and epoll sets.
        case tombstone
        /// The same file, with the same flags, at the same offset, which is the child's own from then on. The token goes on. Where it cannot be opened again (a pipe, no
        /// permission any more, no `/proc`, no number free) it is as with `tombstone`, and ``ForkReport/descriptorsFailed`` counts it.
        case reopen
        /// The same, shared with the parent: the token goes on. For sockets that listen, and pipes to the parent.
        case keep
    }

    private let number: Int32
    private let serial: UInt64
    private let generation: UInt64
    private let name: StaticString

    /// Opens a descriptor and takes it over, with forks held off, so that no child gets one that nobody knows.
    ///
    /// - Parameters:
    ///   - inChild: what a child finds under the number.
    ///   - name: names it in errors.
    ///   - open: returns the number; or throws; or returns -1, as system calls do, with `errno` set. It should not wait: a fork waits for it.
    /// - Throws: what `open` throws; ``ForkError/system(call:errno:)``.
    public init(_ inChild: InChild = .tombstone, name: StaticString = "descriptor", opening open: () throws -> Int32) throws {
        self = try ForkGuard.withForkPrevented(
            {
                let number = try open()
                if number < 0 { throw ForkError.system(call: "opening \(name)", errno: errno) }
                do {
                    return try ForkDescriptor(adopting: number, inChild, name: name)
                } catch {
                    closeNumber(number)
                    throw error
                }
            }, name: name)
    }

    /// Takes over an open descriptor: from now on only the token closes it. A token that still stands for its number is stale from now on.
    ///
    /// A fork between the call that opened it and this one leaves an unknown descriptor in the child; ``init(_:name:opening:)`` does not.
    ///
    /// - Throws: ``ForkError/system(call:errno:)`` with `EBADF`, `EMFILE` for a number of 1,048,576 or more, `ENOMEM`.
    public init(adopting number: Int32, _ inChild: InChild = .tombstone, name: StaticString = "descriptor") throws(ForkError) {
        var token = forkguard_descriptor_t()
        let error = forkguard_descriptor_adopt(number, inChild.policy, &token)
        guard error == 0 else { throw .system(call: "adopting descriptor \(number) (\(name))", errno: error) }
        self.number = number
        serial = token.serial
        generation = token.generation
        self.name = name
    }

    /// Runs `body` with the number, which means the same as long as it runs. Do not close it there.
    ///
    /// - Throws: what `body` throws; before it runs ``ForkError/staleGeneration(_:generation:)`` when this is another process's and not kept, ``ForkError/closed(_:)`` when it was closed.
    public func withNumber<Result: ~Copyable>(_ body: (Int32) throws -> Result) throws -> Result {
        var token = token
        let generation = ForkGuard.generation
        let error = forkguard_descriptor_enter(&token)
        guard error == 0 else { throw failure(error) }
        // A child that `body` forked has forgotten this use: what it counts are others'.
        defer { if ForkGuard.isCurrent(generation) { forkguard_descriptor_leave(&token) } }
        return try body(number)
    }

    /// Whether a use would throw now. A snapshot.
    public var isStale: Bool {
        var token = token
        guard forkguard_descriptor_enter(&token) == 0 else { return true }
        forkguard_descriptor_leave(&token)
        return false
    }

    /// Closes it: by this call, or, when it is in use, by the use that ends last. In a child, of what was inherited, only the tombstone is removed: the parent's is the
    /// parent's to close.
    ///
    /// - Throws: ``ForkError/closed(_:)`` when it was closed before, which does no harm; ``ForkError/system(call:errno:)`` for what close(2) reports of a file, `EIO` or `ENOSPC`: it
    ///   is closed all the same.
    public func close() throws(ForkError) {
        var token = token
        let error = forkguard_descriptor_close(&token)
        if error == EBADF { throw .closed(description) }
        if error != 0 { throw .system(call: "closing \(description)", errno: error) }
    }

    /// Gives the number up without closing it: it is the caller's again.
    ///
    /// - Throws: as ``withNumber(_:)``; ``ForkError/system(call:errno:)`` with `EBUSY` while it is in use.
    public func release() throws(ForkError) -> Int32 {
        var token = token
        let error = forkguard_descriptor_release(&token)
        guard error == 0 else { throw failure(error) }
        return number
    }

    /// Two tokens of the same opening are equal.
    public static func == (left: ForkDescriptor, right: ForkDescriptor) -> Bool {
        left.number == right.number && left.serial == right.serial && left.generation == right.generation
    }

    /// Hashes what ``==(_:_:)`` compares.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(number)
        hasher.combine(serial)
        hasher.combine(generation)
    }

    private var token: forkguard_descriptor_t { forkguard_descriptor_t(number: number, serial: serial, generation: generation) }

    private func failure(_ error: Int32) -> ForkError {
        switch error {
        case ESTALE: .staleGeneration(description, generation: generation)
        case EBADF: .closed(description)
        default: .system(call: "using \(description)", errno: error)
        }
    }
}

/// close(2), where `close()` is the token's.
private func closeNumber(_ number: Int32) { _ = close(number) }

extension ForkDescriptor: CustomStringConvertible {
    /// The name and the number.
    public var description: String { "\(name) (descriptor \(number))" }
}

extension ForkDescriptor.InChild {
    fileprivate var policy: UInt32 {
        switch self {
        case .tombstone: FORKGUARD_TOMBSTONE.rawValue
        case .reopen: FORKGUARD_REOPEN.rawValue
        case .keep: FORKGUARD_KEEP.rawValue
        }
    }
}
