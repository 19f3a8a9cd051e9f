# SPDX-License-Identifier: Apache-2.0
# What is installed: the command, libaiolos, the plugins (each installs itself), the SDK, and how CMake and pkg-config
# find them. Warnings and sanitizers stay here: aiolos_build_flags is never exported.
include(CMakePackageConfigHelpers)

set(AIOLOS_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/aiolos)

# aiolos_install_library(TARGET NAME): exports a target as aiolos::NAME. Its headers come from below the prefix then.
function(aiolos_install_library target name)
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  set(interface $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  foreach(folder IN LISTS folders)
    if(folder MATCHES "^\\$<")
      list(APPEND interface ${folder})
    elseif(folder)
      list(APPEND interface $<BUILD_INTERFACE:${folder}>)
    endif()
  endforeach()
  list(REMOVE_DUPLICATES interface)
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${interface}" EXPORT_NAME ${name})
  install(TARGETS ${target} EXPORT aiolosTargets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} NAMELINK_COMPONENT aiolos_sdk
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# The SDK: the C ABI's headers, the C++ classes over it and what those stand on.
aiolos_install_library(aiolos_plugin plugin)
aiolos_install_library(aiolos_core core)
aiolos_install_library(aiolos_sdk sdk)
# A language that a library's user needs cannot be said by a static library, but by its features.
target_compile_features(aiolos_sdk PUBLIC cxx_std_20)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/core/include/aiolos DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES
    ${PROJECT_SOURCE_DIR}/plugins/include/aiolos/image_file.hpp
    ${PROJECT_SOURCE_DIR}/plugins/include/aiolos/plugin.h
    ${PROJECT_SOURCE_DIR}/plugins/include/aiolos/plugin.hpp
    ${PROJECT_SOURCE_DIR}/plugins/include/aiolos/plugin_edge.hpp
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/aiolos)

# libaiolos and the command.
if(TARGET aiolos)
  aiolos_install_library(aiolos aiolos)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/agent/include/aiolos DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endif()
if(TARGET aiolos_cli)
  set_target_properties(aiolos_cli PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS aiolos_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
configure_file(${PROJECT_SOURCE_DIR}/packaging/aiolos-reconcile.service.in
  ${PROJECT_BINARY_DIR}/aiolos-reconcile.service @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/aiolos-reconcile.service DESTINATION lib/systemd/system)
# The conformance suite belongs to the SDK: aiolos::conformance in CMake.
if(TARGET aiolos_conformance)
  install(TARGETS aiolos_conformance EXPORT aiolosTargets RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
    COMPONENT aiolos_sdk)
endif()
if(EXISTS ${PROJECT_SOURCE_DIR}/packaging/aiolos.yaml)
  install(FILES ${PROJECT_SOURCE_DIR}/packaging/aiolos.yaml DESTINATION ${CMAKE_INSTALL_DATADIR}/aiolos)
endif()

# find_package(aiolos)
install(EXPORT aiolosTargets NAMESPACE aiolos:: DESTINATION ${AIOLOS_CMAKE_DIR})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/aiolosConfig.cmake.in
  ${PROJECT_BINARY_DIR}/aiolosConfig.cmake INSTALL_DESTINATION ${AIOLOS_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/aiolosConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
    ${PROJECT_BINARY_DIR}/aiolosConfig.cmake
    ${PROJECT_BINARY_DIR}/aiolosConfigVersion.cmake
    ${PROJECT_SOURCE_DIR}/cmake/AiolosConformance.cmake
    ${PROJECT_SOURCE_DIR}/cmake/AiolosPlugin.cmake
    ${PROJECT_SOURCE_DIR}/cmake/aiolos-plugin.map
  DESTINATION ${AIOLOS_CMAKE_DIR})

# pkg-config. The prefix is found from the file's own place, so an installation can be moved.
file(RELATIVE_PATH AIOLOS_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
foreach(package aiolos aiolos-plugin)
  configure_file(${PROJECT_SOURCE_DIR}/packaging/${package}.pc.in ${PROJECT_BINARY_DIR}/${package}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${package}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
