// Forks for a long time, beside everything else that a process does: Scripts/soak.

import ForkGuard
import Glibc

let arguments: Arguments
do { arguments = try Arguments(Array(CommandLine.arguments.dropFirst())) } catch {
    say(error.message)
    exit(64)
}
if arguments.wantsHelp {
    print(Arguments.help)
    exit(0)
}

ForkGuard.deadline = .seconds(30)
let soak = try Soak(unguarded: arguments.control == .unguarded)
let threads = soak.start()
let began = ContinuousClock.now
var left: [SystemThread] = []
var leaked: [[UInt8]] = []
var usages: [Usage] = []
var done = 0
// After a tenth everything has been made that stays.
var points = [arguments.forks / 10, arguments.forks / 2, arguments.forks]

while done < arguments.forks {
    switch arguments.control {
    case .descriptors: _ = open("/dev/null", O_RDONLY | O_CLOEXEC)
    case .memory: leaked.append([UInt8](repeating: 1, count: 1 << 20))
    case .threads: left.append(SystemThread("left") { while true { pause() } })
    case .unguarded, nil: break
    }
    if arguments.control != .unguarded {
        soak.forkLate(raw: true)
        soak.forkLate(raw: false)
        soak.forkAfterEndInside()
        soak.forkWithoutDescriptors()
        done += 4
    }
    let forks = min(Soak.forksInLap - 4, arguments.forks - done)
    if forks > 0 {
        try soak.runLap(forks)
        done += forks
    }
    if let point = points.first, done >= point {
        points.removeFirst()
        usages.append(Usage(forks: done))
    }
}
let seconds = (ContinuousClock.now - began) / .seconds(1)
soak.stop(threads)

let tally = soak.tally.withLock { $0 }
let grew = usages.dropFirst().flatMap { $0.growth(since: usages[0]) }
for growth in grew { say("grew: \(growth)") }
let complete = tally.accounted + tally.wrong == done
if !complete { say("of \(done) forks \(tally.accounted + tally.wrong) are accounted for") }
let passes = grew.isEmpty && complete && tally.wrong == 0
print(
    "{\"forks\":\(done),\(tally.json),\"seconds\":\(Int(seconds)),\"forks_per_second\":\(Int(Double(done) / seconds)),"
        + "\"grew\":\(grew.count),\"usage\":[\(usages.map(\.json).joined(separator: ","))],\"passed\":\(passes)}")
exit(passes ? 0 : 1)
