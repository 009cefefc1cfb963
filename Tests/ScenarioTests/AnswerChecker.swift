import ForkGuard
import Glibc
import Wire

/// Asks a server whose workers come and go, over and over, each time on a new connection, and looks at each answer, which begins with the
/// id of the process that gave it.
final class AnswerChecker {
    private let server: ServerAddress
    private let tally: Tally
    /// Which processes have answered.
    private let seen: ForkMutex<Set<pid_t>>
    private let patience: Duration

    init(_ server: ServerAddress, _ tally: Tally, seen: ForkMutex<Set<pid_t>>, patience: Duration) {
        self.server = server
        self.tally = tally
        self.seen = seen
        self.patience = patience
    }

    /// Whether an answer, without the process id, is right. `lost` is how many times the same was asked before without an answer, because
    /// the connection was lost.
    typealias Check = (_ process: pid_t, _ answer: String, _ lost: Int) -> Bool

    /// Asks until told to end, or until a question hangs.
    func run(isOver: () -> Bool, next: () -> (path: String, Check)) {
        while !isOver() {
            let (path, isRight) = next()
            var lost = 0
            let deadline = Deadline(in: patience)
            asking: while true {
                do {
                    let answer = try VerifyingClient.ask(path, Connection(to: server, timeout: deadline.left), deadline)
                    let words = answer.trimmingSuffix { $0.isNewline }.split(separator: " ", maxSplits: 1)
                    guard words.count == 2, let process = pid_t(words[0]), isRight(process, String(words[1]), lost) else {
                        tally.add("wrong", 1, "\(path): '\(answer)'")
                        break asking
                    }
                    seen.withLock { _ = $0.insert(process) }
                    tally.add("right")
                    break asking
                } catch WireError.closedByPeer, WireError.system("connect", ECONNRESET) {
                    lost += 1
                    tally.add("lost")
                } catch WireError.timedOut(let what) {
                    return tally.add("hung", 1, "\(path): \(what) took too long")
                } catch {
                    tally.add("wrong", 1, "\(path): \(error)")
                    break asking
                }
            }
        }
    }
}

extension String {
    fileprivate func trimmingSuffix(while isUnwanted: (Character) -> Bool) -> Substring {
        var text = self[...]
        while let last = text.last, isUnwanted(last) { text.removeLast() }
        return text
    }
}
