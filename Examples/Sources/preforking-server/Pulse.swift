import ForkGuard
import Glibc
import RedisClient

/// The parent's own use of what its workers inherit, all the time: they are forked in the middle of it.
actor Pulse {
    private let redis: RedisClient
    private(set) var right = 0
    private(set) var wrong = 0

    init(_ redis: RedisClient) { self.redis = redis }

    /// Until its task is cancelled.
    func beat() async {
        while (try? await Task.sleep(for: .milliseconds(2))) != nil {
            let text = "\(getpid())-\(right)"
            do {
                let key = "preforking-server:parent"
                let replies = try await redis.pipeline([["SET", key, text, "EX", "60"], ["GET", key]])
                if replies.map(\.text) == ["OK", text] { right += 1 } else { wrong += 1 }
            } catch {
                wrong += 1
                await say("the parent has no answer from Redis: \(error)")
            }
        }
    }

    var state: String { "parent: \(right) right, \(wrong) wrong, \(redis.counters.made) connections made" }
}
