internal import CInspect
internal import Glibc

/// What is known of a process that reported.
final class AuditedProcess {
    let id: Int32
    /// The fork that made it, unless it executed a program since.
    var fork: AuditedFork?
    /// What was mapped when it was looked at last.
    var symbolizer: Symbolizer?
    /// A pidfd; -1 where there is none.
    private(set) var descriptor: Int32
    var end: End?
    /// When its connection ended, which is when it did, unless it closed all descriptors.
    var left: UInt64?
    /// What it began to wait for and has not got.
    var waits: [Wait] = []
    var stillness = Stillness()

    init(_ id: Int32) {
        self.id = id
        descriptor = inspect_open_process(id)
    }

    deinit { forget() }

    /// Whether it is there, and not only waits to be reaped.
    var isRunning: Bool { descriptor >= 0 && !inspect_has_ended(descriptor) }

    /// No signal reaches it any more. There may be many thousands of processes.
    func forget() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    enum End {
        case executed, exited
    }

    struct Wait {
        let since: UInt64
        let address: UInt64?
        let text: String
        let place: AuditReport.Place
    }

    /// Whether all of its threads are where nothing but each other can wake them, since when, and what they were seen in.
    struct Stillness {
        var threads: [ThreadStillness.Wait] = []
        var since: UInt64 = 0
        var places: [AuditReport.Place] = []
        var isLong = false
    }
}
