import Dispatch
import ForkGuard
import Glibc
import RedisClient

/// A pre-forking HTTP server. The parent uses async code and Redis, and forks in the middle of it; so do its workers, with what they
/// inherit.
@main
enum PreforkingServer {
    static func main() async {
        do {
            guard let options = try Options(CommandLine.arguments.dropFirst()) else { return say(Options.usage) }
            exit(try await run(options) ? 0 : 1)
        } catch let error as Options.Invalid {
            complain("preforking-server: \(error.description)\n\n\(Options.usage)")
            exit(64)
        } catch {
            complain("preforking-server: \(error)")
            exit(1)
        }
    }

    /// Whether every answer that the parent itself got was right.
    private static func run(_ options: Options) async throws -> Bool {
        // From here on a signal that stops the server is an element of this stream, also one that comes before somebody listens.
        let signals = signals(SIGTERM, SIGINT, SIGUSR1)
        let redis = try RedisClient(options.redis)
        _ = try await redis.pipeline([["PING"]])
        let (listener, port) = try listen(on: options.port)
        let supervisor = Supervisor(of: Worker(listener: listener, redis: redis, lifeline: try Lifeline()))
        let pulse = Pulse(redis)
        await say("listening on 127.0.0.1:\(port), process \(getpid())")
        await withDiscardingTaskGroup { group in
            group.addTask { await supervisor.keep(options.workers) }
            group.addTask { await pulse.beat() }
            if let seconds = options.seconds {
                group.addTask { if (try? await Task.sleep(for: .seconds(seconds))) != nil { kill(getpid(), SIGTERM) } }
            }
            for await signal in signals {
                if signal != SIGUSR1 { break }
                await say("\(pulse.state); \(supervisor.state)")
            }
            group.cancelAll()
        }
        await say("stopped; \(pulse.state); \(supervisor.state)")
        return await pulse.wrong == 0
    }
}

/// Prints a line, whole, whoever else prints.
@MainActor
func say(_ line: String) { write(STDOUT_FILENO, "\(line)\n", line.utf8.count + 1) }

func complain(_ line: String) { write(STDERR_FILENO, "\(line)\n", line.utf8.count + 1) }
