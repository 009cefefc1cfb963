internal import CForkGuard

/// What a fork did: how it was seen, how long each phase took, what held it up, what is torn and why, which hooks failed.
///
/// A copy of a C struct of fixed size; reading it takes no lock. `FORKGUARD_REPORT=1` in the environment prints one for each fork.
public struct ForkReport: Sendable, CustomStringConvertible {
    /// Which process reads.
    public enum Side: Sendable { case parent, child }

    /// How the fork was noticed.
    public enum Seen: Sendable {
        /// libc ran the handlers.
        case byHandlers
        /// The child discovered it later: the fork ran no handlers.
        case late
        /// A raw fork inside a hook: it was not prepared.
        case insideHook
    }

    /// Why what a thread held is torn in the child.
    public enum TornReason: Sendable {
        /// It waited for its own turn to fork.
        case waitingToFork
        /// It was blocked on a lock of the forking thread's, or of one that waited to fork.
        case blockedOnForker
        /// It was still inside at the deadline.
        case pastDeadline
        /// It was let in while the fork was under way, because fork() itself seemed to wait for it.
        case breach
        /// The fork was not prepared.
        case notPrepared
        /// It had ended without unlocking.
        case threadEnded
    }

    /// A thread that held up the fork, or whose section is torn.
    public struct Holder: Sendable, CustomStringConvertible {
        /// The kernel's thread id.
        public let threadID: Int32
        /// The thread's name, or empty.
        public let threadName: String
        /// The lock's name, or empty.
        public let lockName: String
        /// Where the lock was made, "file:line", or empty.
        public let lockPlace: String
        /// Why it is torn; `nil` for one that only held the fork up.
        public let torn: TornReason?

        /// Thread and lock in words.
        public var description: String {
            var text = "thread \(threadID)"
            if !threadName.isEmpty { text += " (\(threadName))" }
            if !lockName.isEmpty { text += " in '\(lockName)'" }
            if !lockPlace.isEmpty { text += " made at \(lockPlace)" }
            return text
        }
    }

    /// A hook that failed, or took longer than the deadline.
    public struct HookFailure: Sendable {
        /// The registration's name.
        public let name: String
        /// prepare, parent or child.
        public let phase: String
        /// What the C callback returned; 1 for a Swift hook that threw; `ETIMEDOUT` for one that was only slow.
        public let code: Int32
        /// How long it took.
        public let duration: Duration
    }

    private let raw: forkguard_report

    init(_ raw: forkguard_report) { self.raw = raw }

    /// The fork's number, counted through all ancestors.
    public var ordinal: UInt64 { raw.ordinal }
    /// The generation of the process that reads.
    public var generation: UInt64 { raw.generation }
    /// Which process reads.
    public var side: Side { raw.side == FORKGUARD_CHILD.rawValue ? .child : .parent }
    /// How the fork was noticed.
    public var seen: Seen {
        switch raw.seen {
        case FORKGUARD_SEEN_LATE.rawValue: .late
        case FORKGUARD_SEEN_NESTED.rawValue: .insideHook
        default: .byHandlers
        }
    }
    /// errno of a fork that failed or was refused, as far as ForkGuard was told; else 0.
    public var error: Int32 { raw.error }
    /// How often the gate was opened again while the fork was prepared.
    public var windows: Int { Int(raw.windows) }
    /// Preparing took until the deadline.
    public var timedOut: Bool { raw.timed_out != 0 }
    /// Another fork's hooks did not end by the deadline: this fork, a raw one, went ahead unprepared.
    public var gotNoTurn: Bool { raw.no_turn != 0 }
    /// How many other threads the gate knew.
    public var otherThreads: Int { Int(raw.prepared_threads) }
    /// Waiting for another fork to end.
    public var turn: Duration { .nanoseconds(Int64(raw.turn_nanoseconds)) }
    /// The prepare hooks.
    public var prepareHooks: Duration { .nanoseconds(Int64(raw.prepare_nanoseconds)) }
    /// Closing the gate and waiting for those inside.
    public var gate: Duration { .nanoseconds(Int64(raw.gate_nanoseconds)) }
    /// From the closed gate to the first handler after the fork.
    public var copy: Duration { .nanoseconds(Int64(raw.copy_nanoseconds)) }
    /// The parent or child hooks.
    public var hooksAfter: Duration { .nanoseconds(Int64(raw.after_nanoseconds)) }
    /// Who was inside while the fork waited for more than a millisecond.
    public var heldUpBy: Holder? { raw.blocker.thread_id == 0 ? nil : Holder(raw.blocker) }
    /// How often a parked thread was let in while the fork was under way, because fork() itself seemed to wait for it.
    public var letIn: Int { Int(raw.breaches) }
    /// How many threads were inside at the copy, as far as this side knows: of those that were let in only the child does.
    /// ``tornHolders`` has the first eight.
    public var tornCount: Int { Int(raw.torn_holders_count) }
    /// The threads that were inside at the copy.
    public var tornHolders: [Holder] { elements(raw.torn_holders, count: raw.torn_holders_count).map(Holder.init) }
    /// How many hooks failed; ``hookFailures`` has the first eight.
    public var hookFailureCount: Int { Int(raw.hook_failures_count) }
    /// The hooks that failed.
    public var hookFailures: [HookFailure] { elements(raw.hook_failures, count: raw.hook_failures_count).map(HookFailure.init) }

    /// The report in lines, as `FORKGUARD_REPORT=1` prints it.
    public var description: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 8192) { text in
            _ = withUnsafePointer(to: raw) { forkguard_report_format($0, text.baseAddress!, text.count) }
            return String(cString: text.baseAddress!)
        }
    }
}

/// The first `count` elements of a C array, which Swift sees as a tuple.
private func elements<Tuple, Element>(_ tuple: Tuple, count: UInt32) -> [Element] {
    withUnsafeBytes(of: tuple) { Array($0.bindMemory(to: Element.self).prefix(Int(count))) }
}

/// A C array of characters, closed by a 0.
private func string<Tuple>(_ characters: Tuple) -> String {
    withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

extension ForkReport.Holder {
    init(_ raw: forkguard_holder) {
        threadID = raw.thread_id
        threadName = string(raw.thread_name)
        lockName = string(raw.lock_name)
        lockPlace = string(raw.lock_place)
        torn =
            switch raw.mark {
            case FORKGUARD_MARK_TURN.rawValue: .waitingToFork
            case FORKGUARD_MARK_CHAIN.rawValue: .blockedOnForker
            case FORKGUARD_MARK_LATE.rawValue: .pastDeadline
            case FORKGUARD_MARK_BREACH.rawValue: .breach
            case FORKGUARD_MARK_BYPASS.rawValue: .notPrepared
            case FORKGUARD_MARK_ENDED.rawValue: .threadEnded
            default: nil
            }
    }
}

extension ForkReport.HookFailure {
    init(_ raw: forkguard_hook_failure) {
        name = string(raw.name)
        phase = string(raw.phase)
        code = raw.code
        duration = .milliseconds(Int64(raw.milliseconds))
    }
}
