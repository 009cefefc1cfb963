import Dispatch
import ForkGuard
import Glibc

/// Forks the workers, and another one for each that ends.
actor Supervisor {
    private let worker: Worker
    private var running: Set<pid_t> = []
    private var forks = 0

    init(of worker: Worker) { self.worker = worker }

    /// Keeps that many workers until its task is cancelled: then it stops them, and returns when the last is gone.
    func keep(_ count: Int) async {
        await withDiscardingTaskGroup { group in
            for _ in 0..<count { group.addTask { await self.keepOne() } }
        }
    }

    var state: String { "workers:\(running.sorted().map { " \($0)" }.joined()); \(forks) forked" }

    private func keepOne() async {
        while !Task.isCancelled {
            let begin = ContinuousClock.now
            do {
                let child = try fork()
                running.insert(child.pid)
                await say("worker \(child.pid) forked")
                let ending = try await ending(of: child)
                running.remove(child.pid)
                await say("worker \(child.pid) \(ending)")
            } catch {
                complain("preforking-server: \(error)")
            }
            // One that cannot live is not forked again as fast as possible.
            if ContinuousClock.now - begin < .milliseconds(100) { try? await Task.sleep(for: .milliseconds(100)) }
        }
    }

    /// In the child nothing of this actor is to be used: a thread of the parent's is in it for ever.
    private func fork() throws -> ChildProcess {
        forks += 1
        return try ForkGuard.fork { [worker] in try await worker.run() }
    }

    /// Waits without a thread. When the task is cancelled it ends the child, at first politely.
    private func ending(of child: ChildProcess) async throws -> ChildProcess.Ending {
        guard let pidfd = child.pidfd else {
            try? child.signal(SIGKILL)
            throw ForkError.system(call: "pidfd_open", errno: ENOSYS)  // before Linux 5.3
        }
        let end = readings(of: pidfd, as: Never.self) { [child] continuation in
            withExtendedLifetime(child) { continuation.finish() }
        }
        let isGone = Task { for await _ in end {} }
        await withTaskCancellationHandler {
            await isGone.value
        } onCancel: {
            try? child.signal(SIGTERM)
            DispatchQueue.global().asyncAfter(deadline: .now() + 2) { try? child.signal(SIGKILL) }
        }
        return try child.wait(timeout: .zero)
    }
}
