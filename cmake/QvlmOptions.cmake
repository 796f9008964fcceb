# Compiler flags of our own targets. They hang on an interface target that is linked PRIVATE, so a
# consumer never inherits them.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)

# How an application compiles and links is its own affair.
if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  find_program(QVLM_CCACHE ccache)
  if(QVLM_CCACHE)
    # The sloppiness is what ccache's manual asks for with precompiled headers.
    set(CMAKE_CXX_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
        ${QVLM_CCACHE})
  endif()
  find_program(QVLM_LLD NAMES ld.lld)
  if(QVLM_LLD)
    add_link_options(-fuse-ld=lld)
  endif()
endif()

add_library(qvlm_flags INTERFACE)
# Designated initializers leave out the fields that keep their default, which -Wextra would complain about.
# -ffp-contract=off: without it CPU levels drift apart by fused multiply-adds. -fpch-preprocess is for our ccache; one
# without the sloppiness above would refuse to cache at all.
target_compile_options(qvlm_flags INTERFACE
  -Wall -Wextra -Wno-missing-field-initializers -Wshadow -Wnon-virtual-dtor -Winvalid-pch
  $<$<BOOL:${PROJECT_IS_TOP_LEVEL}>:-fpch-preprocess> -ffp-contract=off
  $<$<BOOL:${QVLM_WERROR}>:-Werror>)

if(QVLM_SANITIZE)
  add_compile_options(-fsanitize=${QVLM_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${QVLM_SANITIZE})
endif()

# qvlm_add_library(<name> HEADERS <files>): the static library qvlm::<name>, with the headers of include/qvlm that it
# implements and what all three libraries share.
function(qvlm_add_library name)
  cmake_parse_arguments(arg "" "" "HEADERS" ${ARGN})
  set(target qvlm_${name})
  if(name STREQUAL "qvlm")
    set(target qvlm)
  endif()
  add_library(${target} STATIC)
  add_library(qvlm::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(${target} PUBLIC cxx_std_20)
  list(TRANSFORM arg_HEADERS PREPEND "${PROJECT_SOURCE_DIR}/include/qvlm/")
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}/include" FILES ${arg_HEADERS})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:qvlm_flags>)
endfunction()
