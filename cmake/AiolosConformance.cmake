# SPDX-License-Identifier: Apache-2.0
# aiolos_add_conformance_test(): the conformance suite on a plugin, as a test of ctest's.

# aiolos_add_conformance_test(NAME CONNECTION
#                             [CONFIG FILE]     the configuration, as the aiolos command reads it
#                             [CONNECT])        the volume exists: connect it, which changes this host
#
# Adds the test conformance.NAME for the plugin that aiolos_add_plugin(NAME ...) builds. CONNECTION is a file with the
# connection_info of one of its volumes. Call enable_testing() before.
function(aiolos_add_conformance_test name connection)
  cmake_parse_arguments(PARSE_ARGV 2 ARG "CONNECT" "CONFIG" "")
  if(NOT TARGET aiolos_driver_${name})
    message(FATAL_ERROR "aiolos_add_conformance_test: no plugin '${name}'; call aiolos_add_plugin(${name} ...) first")
  endif()
  get_filename_component(connection ${connection} ABSOLUTE BASE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  set(options "")
  if(ARG_CONFIG)
    get_filename_component(config ${ARG_CONFIG} ABSOLUTE BASE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
    list(APPEND options --config ${config})
  endif()
  if(ARG_CONNECT)
    list(APPEND options --connect)
  endif()
  add_test(NAME conformance.${name}
    COMMAND aiolos::conformance $<TARGET_FILE:aiolos_driver_${name}> --connection ${connection} ${options})
endfunction()
