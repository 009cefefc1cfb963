import ForkGuard
import Glibc

/// How the forks ended. Each is counted in one of these.
struct Tally {
    /// The child found everything as promised.
    var whole = 0
    /// The same, of the child of a child. Not a fork of the process itself.
    var nested = 0
    /// The child was told that one lock is torn, as it is, and found everything else as promised.
    var toldTorn = 0
    /// The kernel refused the fork, as it was told to.
    var refusedByKernel = 0
    /// `ForkGuard.fork` refused, because a holder outlasted the deadline.
    var refusedLate = 0
    /// The child, or the refusal, is not as promised.
    var failed = 0
    /// The child did not end.
    var hung = 0
    /// Somebody else reaped the child.
    var lost = 0

    var accounted: Int { whole + toldTorn + refusedByKernel + refusedLate }
    var wrong: Int { failed + hung + lost }

    var json: String {
        "\"whole\":\(whole),\"nested\":\(nested),\"told_torn\":\(toldTorn),\"refused_by_kernel\":\(refusedByKernel),"
            + "\"refused_late\":\(refusedLate),\"failed\":\(failed),\"hung\":\(hung),\"lost\":\(lost)"
    }
}

/// What a child found, as its exit status.
enum Finding: Int32 {
    case whole = 0
    case generation = 10
    case halfChanged, pool, worker, stoppedWorker, hooks, descriptor, report, nested, torn, notTorn
}

/// On standard error.
func say(_ message: String) {
    var line = "forkguard-soak: \(message)\n"
    line.withUTF8 { _ = write(2, $0.baseAddress, $0.count) }
}
