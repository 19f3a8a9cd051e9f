# SPDX-License-Identifier: Apache-2.0
# aiolos_add_plugin(): builds an Aiolos plugin. The same function serves Aiolos' own drivers and, by
# find_package(aiolos), everybody else's.

# Exports aiolos_plugin_entry and nothing else: loading is faster, and dlclose is not kept from working by the unique
# symbols that C++ templates leave behind.
set(AIOLOS_PLUGIN_SYMBOLS ${CMAKE_CURRENT_LIST_DIR}/aiolos-plugin.map CACHE INTERNAL "")
# Where plugins are installed, below the prefix; what the default configuration reads.
set(AIOLOS_PLUGIN_INSTALL_DIR lib/aiolos/plugins CACHE INTERNAL "")

# aiolos_add_plugin(NAME SOURCE...
#                   [LIBRARIES LIB...]   further libraries to link
#                   [NO_INSTALL])        build only
#
# Builds aiolos-NAME.so from C or C++ sources and installs it to lib/aiolos/plugins. The target is aiolos_driver_NAME.
# C++ sources get the SDK (aiolos/plugin.hpp) and C++20; C sources alone get the C ABI (aiolos/plugin.h) and need no
# C++ compiler. The shared object lands in AIOLOS_PLUGIN_OUTPUT_DIRECTORY if that is set, in the build folder otherwise.
function(aiolos_add_plugin name)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "NO_INSTALL" "" "LIBRARIES")
  set(sources ${ARG_UNPARSED_ARGUMENTS})
  if(NOT name MATCHES "^[A-Za-z0-9_-]+$")
    message(FATAL_ERROR "aiolos_add_plugin: the name '${name}' may hold letters, digits, '-' and '_' only")
  endif()
  if(NOT sources)
    message(FATAL_ERROR "aiolos_add_plugin(${name}): no sources")
  endif()
  set(target aiolos_driver_${name})
  add_library(${target} MODULE ${sources})
  set_target_properties(${target} PROPERTIES
    PREFIX "" OUTPUT_NAME aiolos-${name} SUFFIX .so
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON
    LINK_DEPENDS ${AIOLOS_PLUGIN_SYMBOLS})
  target_link_options(${target} PRIVATE LINKER:--version-script=${AIOLOS_PLUGIN_SYMBOLS} LINKER:--as-needed
    LINKER:--gc-sections)
  # A symbol that nothing provides is an error here rather than at loading; sanitizers leave theirs to the program.
  if(NOT "${AIOLOS_SANITIZE}${CMAKE_C_FLAGS}${CMAKE_CXX_FLAGS}" MATCHES "address|thread|fsanitize")
    target_link_options(${target} PRIVATE LINKER:-z,defs)
  endif()
  if(sources MATCHES "\\.(cc|cpp|cxx|C)(;|$)")
    target_compile_features(${target} PRIVATE cxx_std_20)
    target_link_libraries(${target} PRIVATE aiolos::sdk)
    if(TARGET aiolos_build_flags)
      target_link_libraries(${target} PRIVATE aiolos_build_flags)
    endif()
  else()
    target_link_libraries(${target} PRIVATE aiolos::plugin)
  endif()
  target_link_libraries(${target} PRIVATE ${ARG_LIBRARIES})
  if(AIOLOS_PLUGIN_OUTPUT_DIRECTORY)
    set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${AIOLOS_PLUGIN_OUTPUT_DIRECTORY})
  endif()
  # The loader refuses what group or others can write, which an umask of 002 gives.
  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND chmod go-w $<TARGET_FILE:${target}> $<TARGET_FILE_DIR:${target}> VERBATIM)
  if(NOT ARG_NO_INSTALL)
    install(TARGETS ${target} LIBRARY DESTINATION ${AIOLOS_PLUGIN_INSTALL_DIR} COMPONENT aiolos_plugins)
  endif()
endfunction()
