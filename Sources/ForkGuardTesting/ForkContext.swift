/// Given to the body in the child: what it reports here is carried back to the test, at once, so that it arrives also when the child
/// crashes or hangs later. Usable from any thread of the child and of its descendants.
public struct ForkContext: Sendable {
    /// Which repetition this is, from 0.
    public let repetition: Int

    /// The process that runs the test.
    public var runner: Int32 { channel.runner }

    let channel: Channel

    /// Records a failure unless the condition holds.
    public func expect(
        _ condition: Bool, _ message: @autoclosure () -> String = "the expectation does not hold",
        file: StaticString = #fileID, line: UInt = #line
    ) {
        if !condition { fail(message(), file: file, line: line) }
    }

    /// Records a failure, and goes on.
    public func fail(_ message: String, file: StaticString = #fileID, line: UInt = #line) {
        channel.report(.failure, "\(file):\(line): \(message)")
    }

    /// Records a line that is shown in the outcome's description, and is no failure: how far the child has come, say.
    public func note(_ message: String) {
        channel.report(.note, message)
    }
}
