internal import CForkGuard

/// A cure of `ForkGuardRuntime` for locks and thread ids that are not the program's own, as ``ForkGuard/runtimeSupport`` lists it.
public struct RuntimeCure: Sendable, Hashable, Codable, CustomStringConvertible {
    /// What is cured: `swift-runtime`, `thread-ids`, `c-library`, `core-foundation`, `process-locks`, `dispatch`, `concurrency`.
    public let name: String
    /// Whether it is on in this process.
    public let isOn: Bool
    /// What was checked at start; or why it is off.
    public let explanation: String

    /// The name, whether it is on, and the explanation.
    public var description: String { "\(name): \(isOn ? "on" : "off"), \(explanation)" }
}

extension ForkGuard {
    /// Which cures are on, and why the others are not. Empty where `ForkGuardRuntime` is not linked.
    ///
    /// Each cure is on only where it was tested (Swift 6.3 on Linux with glibc) and where its check at start passed; the environment's
    /// `FORKGUARD_RUNTIME=off` keeps all of them off. Any thread, any side of a fork.
    public static var runtimeSupport: [RuntimeCure] {
        var cures = [forkguard_cure](repeating: forkguard_cure(), count: Int(FORKGUARD_CURES))
        let count = min(forkguard_cures(&cures, cures.count), cures.count)
        return cures.prefix(count).map { cure in
            RuntimeCure(name: text(cure.name), isOn: cure.on, explanation: text(cure.explanation))
        }
    }

    private static func text<Characters>(_ characters: Characters) -> String {
        withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}
