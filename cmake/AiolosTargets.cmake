# SPDX-License-Identifier: Apache-2.0
# How every target of this project is compiled. Warnings are ours alone: nothing here reaches a consumer's build.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
# A build tree's own plugins lie where its command looks for them first; see agent/config.cc.
set(AIOLOS_PLUGIN_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib/aiolos/plugins)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(aiolos_build_flags INTERFACE)
target_compile_options(aiolos_build_flags INTERFACE -Wall -Wextra -Wshadow $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees overlap in "literal" + std::string at -O2 where there is none: gcc.gnu.org/PR105651.
  target_compile_options(aiolos_build_flags INTERFACE -Wno-restrict)
endif()
if(AIOLOS_SANITIZE)
  target_compile_options(aiolos_build_flags INTERFACE -fsanitize=${AIOLOS_SANITIZE} -fno-omit-frame-pointer)
  if(AIOLOS_SANITIZE MATCHES thread)
    # It does not follow the fences between a ring's two sides; what they order is atomic, and checked as such.
    target_compile_options(aiolos_build_flags INTERFACE -Wno-tsan)
  endif()
  target_link_options(aiolos_build_flags INTERFACE -fsanitize=${AIOLOS_SANITIZE})
endif()
if(AIOLOS_BUILD_FUZZ)
  target_compile_options(aiolos_build_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# aiolos_add_library(NAME SOURCES ... DEPENDS ...): a static part of libaiolos with its headers in include/.
function(aiolos_add_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
    PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_DEPENDS} PRIVATE ${ARG_PRIVATE} $<BUILD_INTERFACE:aiolos_build_flags>)
endfunction()
