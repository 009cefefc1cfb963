#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif
import ForkGuard

/// What one column's process does: threads ask, fork in between at random moments, and the children ask too.
final class Workload<Pool: ConnectionPool>: Sendable {
    private let plan: WorkloadPlan
    private let pool: Pool
    private let rawFork: RawFork
    private let records: ChildRecords
    private let progress: PthreadMutex<Progress>

    private struct Progress {
        /// The child to be forked next.
        var next = 0
        var nextAt: UInt64 = 0
        var random: RandomNumbers
        /// Forked or being forked, and not yet reaped.
        var inFlight = 0
        /// Forked since the watch looked last.
        var newborn: [Child] = []
        var stops = false
        var forkTimes: [UInt64] = []
        var tally = Tally()
    }

    private struct Child: Sendable {
        let ticket: Int
        let pid: Int32
        /// Of those that ForkGuard forked.
        let handle: ChildProcess?
        let deadline: UInt64
    }

    private struct Tally: Sendable {
        var asked = 0
        var wrong = 0
        var foreign = 0
    }

    private enum Step: Sendable {
        case ask
        case fork(ticket: Int)
        case stop
    }

    init(_ plan: WorkloadPlan, pool: Pool, rawFork: RawFork, records: ChildRecords) {
        self.plan = plan
        self.pool = pool
        self.rawFork = rawFork
        self.records = records
        progress = PthreadMutex(Progress(random: RandomNumbers(seed: plan.seed)))
    }

    /// Runs it, on the calling thread and those it makes. `isAbandoned` is asked all the time; it sleeps a little.
    func run(_ name: String, isAbandoned: () -> Bool) -> ColumnResult {
        // Once over everything that a child does, while nobody forks: Swift makes generic types at first use, under a lock.
        ForkGuard.preload { rehearse() }
        progress.withLock { $0.nextAt = MonotonicClock.now + plan.start }
        let threads = (0..<plan.threads).compactMap { thread in SystemThread { self.runThread(thread) } }
        if threads.count < plan.threads { Console.error("only \(threads.count) of \(plan.threads) threads could be made") }
        var result = watch(name, isAbandoned: isAbandoned)
        for thread in threads { thread.join() }
        progress.withLock { progress in
            result.parentRequests = progress.tally.asked
            result.parentWrong = progress.tally.wrong
            result.crosstalk += progress.tally.foreign
            let times = progress.forkTimes.sorted()
            result.forkMedianMicroseconds = times.percentile(50) / 1000
            result.forkP99Microseconds = times.percentile(99) / 1000
        }
        return result
    }

    // ---- the threads ----

    private func runThread(_ thread: Int) {
        var random = RandomNumbers(seed: plan.seed &+ UInt64(thread) &* 7919 &+ 1)
        var questions = Questions(pool, thread: thread, random: RandomNumbers(seed: random.next()))
        var tally = Tally()
        while true {
            switch nextStep() {
            case .stop:
                progress.withLock { [tally] progress in
                    progress.tally.asked += tally.asked
                    progress.tally.wrong += tally.wrong
                    progress.tally.foreign += tally.foreign
                }
                return
            case .fork(let ticket):
                fork(ticket, thread: thread, seed: random.next())
            case .ask:
                tally.asked += 1
                switch questions.ask() {
                case .right: break
                case .wrong, .none: tally.wrong += 1
                case .foreign:
                    tally.wrong += 1
                    tally.foreign += 1
                }
                MonotonicClock.sleep(random.next(below: plan.longestThought))
            }
        }
    }

    private func nextStep() -> Step {
        let plan = plan
        return progress.withLock { progress in
            if progress.stops { return .stop }
            let now = MonotonicClock.now
            guard progress.next < plan.children, now >= progress.nextAt, progress.inFlight < plan.mostInFlight else { return .ask }
            progress.nextAt = now + progress.random.next(below: plan.longestPause)
            progress.next += 1
            progress.inFlight += 1
            return .fork(ticket: progress.next - 1)
        }
    }

    private func fork(_ ticket: Int, thread: Int, seed: UInt64) {
        let before = MonotonicClock.now
        let pid: Int32
        var handle: ChildProcess?
        if plan.isRaw[ticket] {
            pid = rawFork()
            if pid == 0 { _exit(runChild(ticket, thread: thread, seed: seed)) }
            if pid < 0 { Console.error("fork failed: \(String(cString: strerror(errno)))") }
        } else {
            do {
                let child = try ForkGuard.fork { self.runChild(ticket, thread: thread, seed: seed) }
                pid = child.pid
                handle = child
            } catch {
                pid = -1
                Console.error("ForkGuard.fork: \(error)")
            }
        }
        let now = MonotonicClock.now
        let child = Child(ticket: ticket, pid: pid, handle: handle, deadline: now + plan.childDeadline)
        progress.withLock { progress in
            guard pid > 0 else {
                progress.inFlight -= 1
                return
            }
            progress.forkTimes.append(now - before)
            progress.newborn.append(child)
        }
    }

    // ---- the children ----

    private func runChild(_ ticket: Int, thread: Int, seed: UInt64) -> Int32 {
        // Should the parent end first, nobody would kill it if it hangs.
        alarm(60)
        askAll(thread: thread, seed: seed, record: &records[ticket].pointee)
        return 0
    }

    private func askAll(thread: Int, seed: UInt64, record: inout ChildRecord) {
        var questions = Questions(pool, thread: thread, random: RandomNumbers(seed: seed))
        asking: for _ in 0..<plan.childRequests {
            switch questions.ask() {
            case .right: record.right += 1
            case .wrong: record.wrong += 1
            case .foreign:
                record.wrong += 1
                record.foreign += 1
            case .none:
                // It gives up: one that waits for time-out after time-out would be taken for one that hangs.
                record.wrong += 1
                break asking
            }
        }
        record.hasFinished = 1
    }

    private func rehearse() {
        var record = ChildRecord()
        askAll(thread: plan.threads, seed: plan.seed, record: &record)
    }

    // ---- the watch ----

    private func watch(_ name: String, isAbandoned: () -> Bool) -> ColumnResult {
        var result = ColumnResult()
        var alive: [Child] = []
        var nextProgress: UInt64 = 0
        let end = MonotonicClock.now + plan.longest
        while true {
            let now = MonotonicClock.now
            let (newborn, isLast) = progress.withLock { progress in
                defer { progress.newborn = [] }
                if now >= end { progress.next = self.plan.children }
                return (progress.newborn, progress.next == self.plan.children && progress.inFlight == 0)
            }
            alive += newborn
            result.children += newborn.count
            if isLast { break }
            let before = alive.count
            alive.removeAll { count($0, in: &result, now: now) }
            let reaped = before - alive.count
            progress.withLock { $0.inFlight -= reaped }
            if now >= nextProgress {
                nextProgress = now + MonotonicClock.second / 10
                let counts = "\(result.children) of \(plan.children) children forked, \(alive.count) running, \(result.hung) hung"
                Console.progress("\(name): \(counts)")
            }
            if isAbandoned() {
                for child in alive { kill(child.pid, SIGKILL) }
                _exit(EX_SOFTWARE)
            }
        }
        progress.withLock { $0.stops = true }
        Console.progress("")
        return result
    }

    /// Whether the child has ended; then it is counted.
    private func count(_ child: Child, in result: inout ColumnResult, now: UInt64) -> Bool {
        var ending = ending(of: child, waits: false)
        let isHung = ending == nil && now >= child.deadline
        if isHung {
            kill(child.pid, SIGKILL)
            ending = self.ending(of: child, waits: true)
        }
        guard let ending else { return false }
        let record = records[child.ticket].pointee
        result.crosstalk += Int(record.foreign)
        if isHung {
            result.hung += 1
        } else if ending != .exited(0) || record.hasFinished == 0 {
            result.crashed += 1
        } else if record.wrong == 0, record.right == plan.childRequests {
            result.ok += 1
        }
        return true
    }

    /// `nil`: it runs.
    private func ending(of child: Child, waits: Bool) -> ChildProcess.Ending? {
        if let handle = child.handle {
            do {
                return try handle.wait(timeout: waits ? nil : .zero)
            } catch .timedOut {
                return nil
            } catch {
                Console.error("\(error)")
                return .exited(-1)
            }
        }
        var status: Int32 = 0
        while true {
            let reaped = waitpid(child.pid, &status, waits ? 0 : WNOHANG)
            if reaped == 0 { return nil }
            // wait(2): the low seven bits are the signal, the next byte the exit status.
            if reaped > 0 { return status & 0x7F == 0 ? .exited((status >> 8) & 0xFF) : .signalled(status & 0x7F) }
            if errno != EINTR { return .exited(-1) }
        }
    }
}
