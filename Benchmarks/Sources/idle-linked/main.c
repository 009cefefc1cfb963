#include "cidle.h"
#include "forkguard.h"

// Nothing is registered, no lock is taken. The call does nothing that the constructor has not done; the reference is what makes
// the linker keep the constructor.
int main(int count, char **arguments) {
    forkguard_start();
    return idle_main(count, arguments);
}
