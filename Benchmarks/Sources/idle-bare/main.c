#include "cidle.h"

int main(int count, char **arguments) { return idle_main(count, arguments); }
