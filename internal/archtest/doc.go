// Package archtest holds the shape of the project's source: who may import
// whom, how long files and functions may be, which words have no place here.
// It has tests alone.
package archtest
