// SPDX-License-Identifier: Apache-2.0
// Prints the drivers of an installed libaiolos, through its C++ API.
#include <aiolos/agent/agent.h>

#include <iostream>

int main() {
  auto agent = aiolos::Agent::open({});
  if (!agent) {
    std::cerr << agent.error().message << "\n";
    return 1;
  }
  for (const aiolos::DriverListing& driver : (*agent)->drivers()) std::cout << driver.name << "\n";
}
