internal import CForkGuard

extension ForkReport: Codable {
    private enum CodingKeys: String, CodingKey {
        case ordinal, generation, side, seen, error, otherProcess, windows, timedOut, gotNoTurn, waitedForHook, otherThreads, letIn
        case hasStaleThreadIDs
        case turnNanoseconds, prepareHooksNanoseconds, gateNanoseconds, copyNanoseconds, childPhasesNanoseconds, hooksAfterNanoseconds
        case foreignLocks, foreignReinitialized, foreignOwn
        case descriptorsTombstoned, descriptorsReopened, descriptorsKept, descriptorsFailed
        case heldUpBy, tornCount, tornHolders, hookFailureCount, hookFailures, hookCount, hooks, vanishedCount, vanishedThreads
    }

    /// Every property under its name; durations as whole nanoseconds.
    public func encode(to encoder: any Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(raw.ordinal, forKey: .ordinal)
        try values.encode(raw.generation, forKey: .generation)
        try values.encode(side, forKey: .side)
        try values.encode(seen, forKey: .seen)
        try values.encode(raw.error, forKey: .error)
        try values.encode(raw.other_pid, forKey: .otherProcess)
        try values.encode(raw.windows, forKey: .windows)
        try values.encode(timedOut, forKey: .timedOut)
        try values.encode(gotNoTurn, forKey: .gotNoTurn)
        try values.encodeIfPresent(waitedForHook, forKey: .waitedForHook)
        try values.encode(raw.prepared_threads, forKey: .otherThreads)
        try values.encode(raw.breaches, forKey: .letIn)
        try values.encode(hasStaleThreadIDs, forKey: .hasStaleThreadIDs)
        try values.encode(raw.turn_nanoseconds, forKey: .turnNanoseconds)
        try values.encode(raw.prepare_nanoseconds, forKey: .prepareHooksNanoseconds)
        try values.encode(raw.gate_nanoseconds, forKey: .gateNanoseconds)
        try values.encode(raw.copy_nanoseconds, forKey: .copyNanoseconds)
        try values.encode(raw.child_nanoseconds, forKey: .childPhasesNanoseconds)
        try values.encode(raw.after_nanoseconds, forKey: .hooksAfterNanoseconds)
        try values.encode(raw.foreign_locks, forKey: .foreignLocks)
        try values.encode(raw.foreign_reinitialized, forKey: .foreignReinitialized)
        try values.encode(raw.foreign_own, forKey: .foreignOwn)
        try values.encode(raw.descriptors_tombstoned, forKey: .descriptorsTombstoned)
        try values.encode(raw.descriptors_reopened, forKey: .descriptorsReopened)
        try values.encode(raw.descriptors_kept, forKey: .descriptorsKept)
        try values.encode(raw.descriptors_failed, forKey: .descriptorsFailed)
        try values.encodeIfPresent(heldUpBy, forKey: .heldUpBy)
        try values.encode(raw.torn_holders_count, forKey: .tornCount)
        try values.encode(tornHolders, forKey: .tornHolders)
        try values.encode(raw.hook_failures_count, forKey: .hookFailureCount)
        try values.encode(hookFailures, forKey: .hookFailures)
        try values.encode(raw.hooks_count, forKey: .hookCount)
        try values.encode(hooks, forKey: .hooks)
        try values.encode(raw.vanished_count, forKey: .vanishedCount)
        try values.encode(vanishedThreads, forKey: .vanishedThreads)
    }

    /// What ``encode(to:)`` wrote. Names come back as long as a report keeps them: 47 bytes.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        var raw = forkguard_report()
        raw.ordinal = try values.decode(UInt64.self, forKey: .ordinal)
        raw.generation = try values.decode(UInt64.self, forKey: .generation)
        raw.side = try values.decode(Side.self, forKey: .side).raw
        raw.seen = try values.decode(Seen.self, forKey: .seen).raw
        raw.error = try values.decode(Int32.self, forKey: .error)
        raw.other_pid = try values.decode(Int32.self, forKey: .otherProcess)
        raw.windows = try values.decode(UInt32.self, forKey: .windows)
        raw.timed_out = try values.decode(Bool.self, forKey: .timedOut) ? 1 : 0
        raw.no_turn = try values.decode(Bool.self, forKey: .gotNoTurn) ? 1 : 0
        fill(&raw.waited_hook, try values.decodeIfPresent(String.self, forKey: .waitedForHook) ?? "")
        raw.prepared_threads = try values.decode(UInt32.self, forKey: .otherThreads)
        raw.breaches = try values.decode(UInt32.self, forKey: .letIn)
        raw.stale_thread_ids = try values.decode(Bool.self, forKey: .hasStaleThreadIDs) ? 1 : 0
        raw.turn_nanoseconds = try values.decode(UInt64.self, forKey: .turnNanoseconds)
        raw.prepare_nanoseconds = try values.decode(UInt64.self, forKey: .prepareHooksNanoseconds)
        raw.gate_nanoseconds = try values.decode(UInt64.self, forKey: .gateNanoseconds)
        raw.copy_nanoseconds = try values.decode(UInt64.self, forKey: .copyNanoseconds)
        raw.child_nanoseconds = try values.decode(UInt64.self, forKey: .childPhasesNanoseconds)
        raw.after_nanoseconds = try values.decode(UInt64.self, forKey: .hooksAfterNanoseconds)
        raw.foreign_locks = try values.decode(UInt32.self, forKey: .foreignLocks)
        raw.foreign_reinitialized = try values.decode(UInt32.self, forKey: .foreignReinitialized)
        raw.foreign_own = try values.decode(UInt32.self, forKey: .foreignOwn)
        raw.descriptors_tombstoned = try values.decode(UInt32.self, forKey: .descriptorsTombstoned)
        raw.descriptors_reopened = try values.decode(UInt32.self, forKey: .descriptorsReopened)
        raw.descriptors_kept = try values.decode(UInt32.self, forKey: .descriptorsKept)
        raw.descriptors_failed = try values.decode(UInt32.self, forKey: .descriptorsFailed)
        if let holder = try values.decodeIfPresent(Holder.self, forKey: .heldUpBy) { raw.blocker = holder.raw }
        raw.torn_holders_count = try values.decode(UInt32.self, forKey: .tornCount)
        fill(&raw.torn_holders, try values.decode([Holder].self, forKey: .tornHolders).map(\.raw))
        raw.hook_failures_count = try values.decode(UInt32.self, forKey: .hookFailureCount)
        fill(&raw.hook_failures, try values.decode([HookFailure].self, forKey: .hookFailures).map(\.raw))
        raw.hooks_count = try values.decode(UInt32.self, forKey: .hookCount)
        fill(&raw.hooks, try values.decode([HookRun].self, forKey: .hooks).map(\.raw))
        raw.vanished_count = try values.decode(UInt32.self, forKey: .vanishedCount)
        fill(&raw.vanished, try values.decode([VanishedThread].self, forKey: .vanishedThreads).map(\.raw))
        self.init(raw)
    }
}

/// Copies elements into a C array, which Swift sees as a tuple; those that do not fit are left out.
private func fill<Tuple, Element>(_ tuple: inout Tuple, _ elements: [Element]) {
    withUnsafeMutableBytes(of: &tuple) { bytes in
        for (slot, element) in zip(bytes.bindMemory(to: Element.self).indices, elements) {
            bytes.storeBytes(of: element, toByteOffset: slot * MemoryLayout<Element>.stride, as: Element.self)
        }
    }
}

/// Copies a name into a C array of characters, cut before it is full, so that a 0 closes it.
private func fill<Tuple>(_ tuple: inout Tuple, _ text: String) { fill(&tuple, Array(text.utf8.prefix(MemoryLayout<Tuple>.size - 1))) }

extension ForkReport.Side {
    fileprivate var raw: UInt32 { self == .child ? FORKGUARD_CHILD.rawValue : FORKGUARD_PARENT.rawValue }
}

extension ForkReport.Seen {
    fileprivate var raw: UInt32 {
        switch self {
        case .byHandlers: FORKGUARD_SEEN_HANDLERS.rawValue
        case .late: FORKGUARD_SEEN_LATE.rawValue
        case .insideHook: FORKGUARD_SEEN_NESTED.rawValue
        }
    }
}

extension ForkReport.TornReason {
    fileprivate var raw: UInt32 {
        switch self {
        case .waitingToFork: FORKGUARD_MARK_TURN.rawValue
        case .blockedOnForker: FORKGUARD_MARK_CHAIN.rawValue
        case .pastDeadline: FORKGUARD_MARK_LATE.rawValue
        case .breach: FORKGUARD_MARK_BREACH.rawValue
        case .notPrepared: FORKGUARD_MARK_BYPASS.rawValue
        case .threadEnded: FORKGUARD_MARK_ENDED.rawValue
        case .heldByForker: FORKGUARD_MARK_OWN.rawValue
        }
    }
}

extension ForkReport.Holder {
    fileprivate var raw: forkguard_holder {
        var raw = forkguard_holder()
        raw.thread_id = threadID
        raw.mark = torn?.raw ?? FORKGUARD_MARK_NONE.rawValue
        fill(&raw.thread_name, threadName)
        fill(&raw.lock_name, lockName)
        fill(&raw.lock_place, lockPlace)
        return raw
    }
}

extension ForkReport.HookFailure {
    fileprivate var raw: forkguard_hook_failure {
        var raw = forkguard_hook_failure()
        fill(&raw.name, name)
        fill(&raw.phase, phase)
        raw.code = code
        raw.milliseconds = UInt32(clamping: nanoseconds / 1_000_000)
        return raw
    }
}

extension ForkReport.HookRun {
    fileprivate var raw: forkguard_hook_run {
        var raw = forkguard_hook_run()
        fill(&raw.name, name)
        fill(&raw.phase, phase)
        raw.nanoseconds = UInt64(clamping: nanoseconds)
        return raw
    }
}

extension ForkReport.VanishedThread {
    fileprivate var raw: forkguard_thread {
        var raw = forkguard_thread()
        raw.thread_id = threadID
        fill(&raw.name, name)
        return raw
    }
}
