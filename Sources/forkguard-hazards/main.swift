import Foundation

exit(Hazards.main(Array(CommandLine.arguments.dropFirst())))
