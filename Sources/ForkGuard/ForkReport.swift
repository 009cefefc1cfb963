internal import CForkGuard

/// What a fork did: how it was seen, how long each phase took, what held it up, what is torn and why, which hooks ran and failed, which locks that are
/// not ours were made anew, which threads vanished.
///
/// A copy of a C struct of fixed size; reading it takes no lock, and only lists and names allocate. Parent and child each have their own.
/// `FORKGUARD_REPORT=1` in the environment prints one for each fork. Encoded, it has durations as whole nanoseconds.
public struct ForkReport: Sendable, CustomStringConvertible {
    /// Which process reads.
    public enum Side: String, Sendable, Codable { case parent, child }

    /// How the fork was noticed.
    public enum Seen: String, Sendable, Codable {
        /// libc ran the handlers.
        case byHandlers
        /// The child discovered it later: the fork ran no handlers.
        case late
        /// A raw fork inside a hook: it was not prepared.
        case insideHook
    }

    /// Why what a thread held is torn in the child.
    public enum TornReason: String, Sendable, Codable {
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
        /// Nothing is torn: `ForkGuard.fork` refused, because the calling thread itself holds the lock.
        case heldByForker
    }

    /// A thread that held up the fork, or whose section is torn.
    public struct Holder: Sendable, Hashable, Codable, CustomStringConvertible {
        /// The kernel's thread id; 0 when the lock does not tell.
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
            var text = threadID == 0 ? "a thread" : "thread \(threadID)"
            if !threadName.isEmpty { text += " (\(threadName))" }
            if !lockName.isEmpty { text += " in '\(lockName)'" }
            if !lockPlace.isEmpty { text += " made at \(lockPlace)" }
            return text
        }

        var lockOrThread: String { lockName.isEmpty ? description : lockName }
    }

    /// A hook that failed or took longer than the deadline, or a registered lock that could not be used.
    public struct HookFailure: Sendable, Hashable, Codable {
        /// The registration's name.
        public let name: String
        /// prepare, parent or child; lock for what kept a lock from being tried, torn for its `ifTorn`.
        public let phase: String
        /// What the C callback returned; 1 for a Swift hook that threw; `ETIMEDOUT` for one that was only slow; an errno for a lock.
        public let code: Int32
        /// How long it took.
        public var duration: Duration { .nanoseconds(nanoseconds) }

        let nanoseconds: Int64
    }

    /// A hook that ran.
    public struct HookRun: Sendable, Hashable, Codable {
        /// The registration's name.
        public let name: String
        /// prepare, parent or child.
        public let phase: String
        /// How long it took.
        public var duration: Duration { .nanoseconds(nanoseconds) }

        let nanoseconds: Int64
    }

    /// A thread of the parent that the child does not have.
    public struct VanishedThread: Sendable, Hashable, Codable {
        /// The kernel's thread id in the parent.
        public let threadID: Int32
        /// Its name when it first took a lock, or empty.
        public let name: String
    }

    let raw: forkguard_report

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
    public var turn: Duration { .nanoseconds(Int64(clamping: raw.turn_nanoseconds)) }
    /// The prepare hooks.
    public var prepareHooks: Duration { .nanoseconds(Int64(clamping: raw.prepare_nanoseconds)) }
    /// Closing the gate and waiting for those inside.
    public var gate: Duration { .nanoseconds(Int64(clamping: raw.gate_nanoseconds)) }
    /// From the closed gate to the first handler after the fork.
    public var copy: Duration { .nanoseconds(Int64(clamping: raw.copy_nanoseconds)) }
    /// In the child: from its handler's begin to the first hook. No Swift runs there.
    public var childPhases: Duration { .nanoseconds(Int64(clamping: raw.child_nanoseconds)) }
    /// The parent or child hooks.
    public var hooksAfter: Duration { .nanoseconds(Int64(clamping: raw.after_nanoseconds)) }
    /// The hook of another fork that did not end by the deadline, if ``gotNoTurn`` and it is known.
    public var waitedForHook: String? {
        let name = string(raw.waited_hook)
        return name.isEmpty ? nil : name
    }
    /// The parent's process id in a child; the child's in a parent that called `ForkGuard.fork`, else 0.
    public var otherProcess: Int32 { raw.other_pid }
    /// Who was inside while the fork waited for more than a millisecond.
    public var heldUpBy: Holder? {
        let holder = Holder(raw.blocker)
        return holder.threadID == 0 && holder.lockName.isEmpty && holder.lockPlace.isEmpty ? nil : holder
    }
    /// How many locks that are not ForkGuard's are registered.
    public var foreignLocks: Int { Int(raw.foreign_locks) }
    /// How many of them the child made anew.
    public var foreignReinitialized: Int { Int(raw.foreign_reinitialized) }
    /// How many of them were, and are, the forking thread's own.
    public var foreignOwn: Int { Int(raw.foreign_own) }
    /// In a child: how many inherited descriptors there are tombstones over.
    public var descriptorsTombstoned: Int { Int(raw.descriptors_tombstoned) }
    /// How many were opened anew.
    public var descriptorsReopened: Int { Int(raw.descriptors_reopened) }
    /// How many are shared with the parent, as was wished.
    public var descriptorsKept: Int { Int(raw.descriptors_kept) }
    /// How many could not be opened anew, and have tombstones instead; or were closed, because there was none to be had.
    public var descriptorsFailed: Int { Int(raw.descriptors_failed) }
    /// How often a parked thread was let in while the fork was under way, because fork() itself seemed to wait for it.
    public var letIn: Int { Int(raw.breaches) }
    /// In a child: Swift's runtime and libdispatch have the id that the forking thread had in the parent, so the first contended
    /// `Synchronization.Mutex` or lazy global there traps or spins, and ForkGuardRuntime's cure `thread-ids` is not on (``ForkGuard/runtimeSupport``). New threads are not concerned.
    public var hasStaleThreadIDs: Bool { raw.stale_thread_ids != 0 }
    /// How many threads were inside at the copy, as far as this side knows: of those that were let in only the child does.
    /// ``tornHolders`` has the first eight.
    public var tornCount: Int { Int(raw.torn_holders_count) }
    /// The threads that were inside at the copy.
    public var tornHolders: [Holder] { elements(raw.torn_holders, count: raw.torn_holders_count).map(Holder.init) }
    /// How many hooks failed; ``hookFailures`` has the first eight.
    public var hookFailureCount: Int { Int(raw.hook_failures_count) }
    /// The hooks that failed.
    public var hookFailures: [HookFailure] { elements(raw.hook_failures, count: raw.hook_failures_count).map(HookFailure.init) }
    /// How many hooks ran on this side, before and after.
    public var hookCount: Int { Int(raw.hooks_count) }
    /// The hooks that ran, in their order: sixteen, the slowest if there were more.
    public var hooks: [HookRun] { elements(raw.hooks, count: raw.hooks_count).map(HookRun.init) }
    /// In the child: how many threads of the parent it does not have, of those that had used ForkGuard. ``vanishedThreads`` has the first sixteen.
    /// After a fork that ran no handlers the thread that forked may be among them.
    public var vanishedCount: Int { Int(raw.vanished_count) }
    /// The threads that vanished.
    public var vanishedThreads: [VanishedThread] { elements(raw.vanished, count: raw.vanished_count).map(VanishedThread.init) }

    /// The report in lines, as `FORKGUARD_REPORT=1` prints it.
    public var description: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16384) { text in
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
            case FORKGUARD_MARK_OWN.rawValue: .heldByForker
            default: nil
            }
    }
}

extension ForkReport.HookFailure {
    init(_ raw: forkguard_hook_failure) {
        name = string(raw.name)
        phase = string(raw.phase)
        code = raw.code
        nanoseconds = Int64(raw.milliseconds) * 1_000_000
    }
}

extension ForkReport.HookRun {
    init(_ raw: forkguard_hook_run) {
        name = string(raw.name)
        phase = string(raw.phase)
        nanoseconds = Int64(clamping: raw.nanoseconds)
    }
}

extension ForkReport.VanishedThread {
    init(_ raw: forkguard_thread) {
        threadID = raw.thread_id
        name = string(raw.name)
    }
}
