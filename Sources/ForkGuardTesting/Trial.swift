internal import CForkGuardTesting

/// One fork, and the watch over its child until that has ended or was killed.
struct Trial: Sendable {
    let method: ForkMethod
    let deadline: Duration
    let channel: Channel
    /// Whether a child that hangs is worth the time that its stack takes.
    let wantsStack: @Sendable () -> Bool
    /// What the child does, and reports to the channel.
    let body: @Sendable () -> Void

    struct Result: Sendable {
        enum Ending: Sendable {
            case exited(Int32)
            case signalled(Int32)
            case hung(stack: String)
            case refused(any Error)
            case escaped
        }
        var ending: Ending
        var standardOutput = ""
        var standardError = ""
    }

    func run(from thread: ForkThread) throws -> Result {
        switch thread {
        case .calling: try forkAndWatch { false }
        case .fresh: try runOnFreshThread()
        }
    }

    // ---- a thread per fork ----

    private struct Progress {
        var hasForked = false
        var isAbandoned = false
        var result: Swift.Result<Result, any Error>?
    }

    private func runOnFreshThread() throws -> Result {
        let progress = try Guarded(Progress())
        let thread = try SystemThread("fork-trial") {
            let result = Swift.Result {
                try forkAndWatch {
                    progress.withLock { progress in
                        progress.hasForked = true
                        return progress.isAbandoned
                    }
                }
            }
            progress.withLock { $0.result = result }
        }
        _ = progress.wait(until: Deadline(in: deadline)) { $0.hasForked || $0.result != nil }
        let isAbandoned = progress.withLock { progress in
            progress.isAbandoned = !progress.hasForked && progress.result == nil
            return progress.isAbandoned
        }
        if isAbandoned {
            // Should the fork return after all, the thread ends its child by itself.
            thread.abandon()
            let stack = wantsStack() ? ProcessStack.read(fgt_getpid()) : ProcessStack.brief(fgt_getpid())
            return Result(
                ending: .hung(stack: "the fork had not returned in the runner after \(deadline); the runner's threads:\n\(stack)"))
        }
        thread.join()
        // The thread has stored it before it ended.
        guard let result = progress.withLock({ $0.result }) else { preconditionFailure("a trial without a result") }
        return try result.get()
    }

    // ---- the fork ----

    /// In the child this does not return. `forked` says whether nobody waits for the child any more.
    private func forkAndWatch(_ forked: () -> Bool) throws -> Result {
        fgt_channel_arm(channel.page)
        let pid: Int32
        do {
            pid = try fork()
        } catch {
            fgt_channel_check_runner(channel.page)
            fgt_channel_arm(nil)
            return Result(ending: .refused(error))
        }
        // ForkGuard.fork returns in the runner only. A second return, in the child, must not become a second test suite.
        fgt_channel_check_runner(channel.page)
        fgt_channel_arm(nil)
        fgt_channel_parent_side(channel.page)
        if forked() {
            fgt_kill(pid)
            _ = fgt_reap(pid)
            return Result(ending: .hung(stack: ""))
        }
        return try watch(pid)
    }

    private func fork() throws -> Int32 {
        guard let raw = method.rawMethod else {
            return try forkByForkGuard(onCallingThread: method == .forkGuardOnCallingThread) { childMain() }
        }
        let pid = fgt_fork(raw)
        if pid == 0 { fgt_exit(childMain()) }
        if pid < 0 { throw ForkTestingError.forkFailed(method, errno: -pid) }
        return pid
    }

    private func childMain() -> Int32 {
        fgt_channel_enter(channel.page)
        body()
        if fgt_channel_leaves_processes(1000) {
            channel.report(.failure, "a process that the body started was still running a second after the body had ended, and was killed")
        }
        return 0
    }

    // ---- the watch ----

    private func watch(_ pid: Int32) throws -> Result {
        let until = Deadline(in: deadline)
        let pidfd = fgt_pidfd(pid)
        defer { fgt_close(pidfd) }
        var output = CapturedOutput()
        var errors = CapturedOutput()
        var stack: String?
        var hasEnded = fgt_has_ended(pid)
        while hasEnded == 0 {
            if until.hasPassed {
                let threads = wantsStack() ? ProcessStack.read(pid) : ProcessStack.brief(pid)
                stack = "still running after \(deadline):\n\(threads)"
                break
            }
            fgt_watch(channel.page, pidfd, until.millisecondsLeft)
            output.drain(channel, stream: 1)
            errors.drain(channel, stream: 2)
            hasEnded = fgt_has_ended(pid)
        }
        guard hasEnded >= 0 else { throw ForkTestingError.childReapedByAnother(pid: pid) }
        // Before it is reaped: until then the number of its group is nobody else's.
        fgt_kill(pid)
        let status = fgt_reap(pid)
        output.drain(channel, stream: 1)
        errors.drain(channel, stream: 2)

        var result = Result(ending: .escaped, standardOutput: output.text, standardError: errors.text)
        if channel.hasEscaped {
            fgt_channel_reap_escaped(channel.page, 1000)
            return result
        }
        if let stack {
            result.ending = .hung(stack: stack)
        } else if status < 0 {
            throw ForkTestingError.childReapedByAnother(pid: pid)
        } else {
            let signal = fgt_end_signal(status)
            result.ending = signal != 0 ? .signalled(signal) : .exited(fgt_exit_code(status))
        }
        return result
    }
}
